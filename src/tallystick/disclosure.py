"""Opening a sealed field: permission, reason, record, value, in that order and in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.conditions import Field
from tallystick.domains.identity.disclosures import Disclosure
from tallystick.entity import spec_of
from tallystick.errors import Invalid
from tallystick.privacy.sealed import ciphertext_of
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.repository import Repository

PERMISSION = "secrets.reveal"


async def reveal(repository: Repository[Any], id: UUID, field: Any, reason: str) -> Any:
    """The plain value of one sealed field of one row; see ``Repository.reveal``."""
    from tallystick.privacy.envelope import key_id_of

    spec = repository.spec
    if not isinstance(field, Field) or field.entity is not spec or field.spec.kind is not Kind.SECRET:
        raise Invalid(
            f"reveal() opens one Secret field of {spec.name}.",
            entity=spec.name,
            remedy=f"Write reveal(id, {spec.name}.the_field, reason=...).",
        )
    if not isinstance(reason, str) or len(reason.strip()) < 3:
        raise Invalid("A secret is opened for a reason.", field="reason", remedy='Say it: reason="KYC case 91".')
    db = repository.db
    await db.require(PERMISSION)
    async with db.transaction():
        entity = await repository.get(id)
        await db[Disclosure].add(
            Disclosure(entity=spec_of(type(entity)).table, row_id=id, field=field.name, reason=reason.strip())
        )
        held = getattr(entity, field.name)
        if held is None:
            return None
        envelope = ciphertext_of(held)
        opener = await db.sealer.opener_of({key_id_of(envelope)}, await db.sealer.generation())
        return opener.reveal(spec.table, field.spec, envelope, id)
