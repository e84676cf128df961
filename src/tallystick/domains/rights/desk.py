"""``db.privacy``: what persons may ask for, and what a tenant must do about it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from os import PathLike
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.consents import LegalBasis
from tallystick.domains.identity.erasures import (
    OPEN,
    ErasureGround,
    ErasureRequest,
    ErasureStatus,
    RefusalGround,
)
from tallystick.domains.identity.holds import LegalHold, Restriction, RestrictionGround
from tallystick.domains.identity.retention import RetentionPolicy
from tallystick.domains.identity.users import UserLike, UserStatus, user_id
from tallystick.domains.rights.erasure import Erasure, execute, holds_of, is_left, lock_request
from tallystick.domains.rights.places import specs_of
from tallystick.domains.rights.policies import Policy, in_force, known_classes
from tallystick.errors import Erased, Invalid, NotFound, OnHold
from tallystick.fields import Ref
from tallystick.query import missing, one_of

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.domains.rights.export import Manifest
    from tallystick.domains.rights.offboard import Offboarded
    from tallystick.domains.rights.retention import Batch, Line
    from tallystick.session import Session

_CLASS = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONSENTS = (
    "SELECT 1 FROM tally.consent c WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.withdrawn_at IS NULL "
    "ORDER BY c.id FOR NO KEY UPDATE"
)
_TOUCH = (
    "UPDATE tally.consent c SET withdrawn_at = NULL WHERE c.tenant_id = $1 AND c.user_id = $2 "
    "AND c.withdrawn_at IS NULL RETURNING c.id"
)


class Privacy:
    """The rights of persons within a session's tenant."""

    __slots__ = ("_app", "_db")

    def __init__(self, db: Session, app: Tallystick) -> None:
        self._db = db
        self._app = app

    # -- erasure -------------------------------------------------------------------------------------------------

    async def request_erasure(
        self, user: UserLike, *, ground: ErasureGround = ErasureGround.CONSENT_WITHDRAWN
    ) -> ErasureRequest:
        """Record that a person asks to be erased; nothing is erased yet. A request that is open is the answer.

        The person asks for themselves, or somebody with "privacy.erase". Raises ``NotFound``, ``RoleMissing``,
        ``Erased`` for a person of whom nothing is left.
        """
        db, id = self._db, user_id(user)
        if ground.__class__ is not ErasureGround:
            raise _no_ground("ErasureGround", ErasureGround)
        await acting_user(db, id, "privacy.erase")
        async with db.transaction():
            found = await db.users.lock(id)
            before = await self._open(id)
            if before is not None:
                return before
            if found.status is UserStatus.ERASED and not await is_left(db, id):
                raise Erased("The person was erased already.")
            status = ErasureStatus.ON_HOLD if await holds_of(db, id) else ErasureStatus.REQUESTED
            made = ErasureRequest(user=Ref(id), ground=ground, requested_at=db.now(), status=status)
            return await put(db[ErasureRequest], made)

    async def erase(self, request: ErasureRequest | UUID) -> Erasure:
        """Carry a request out, for every class of data that no hold and no minimum keeps; needs "privacy.erase".

        What is kept comes back with its day and its ground, and the sweep erases it then. Commits by itself. Raises
        ``OnHold`` while a legal hold stands, ``Conflict`` for a request that is done, ``NotFound``, ``Unsupported``
        for keys without a folder and for an application that knows fewer entities than its database.
        """
        db = self._db
        await db.require("privacy.erase")
        id = _id(request, ErasureRequest)
        try:
            return await execute(db, id)
        except OnHold as held:
            problem = held
        await self._set_on_hold(id)
        raise problem

    async def refuse_erasure(self, request: ErasureRequest | UUID, ground: RefusalGround) -> ErasureRequest:
        """Refuse a request, on a ground of Art. 17(3) or 12(5); needs "privacy.erase"."""
        db = self._db
        await db.require("privacy.erase")
        if ground.__class__ is not RefusalGround:
            raise _no_ground("RefusalGround", RefusalGround)
        async with db.transaction():
            _, asked = await lock_request(db, _id(request, ErasureRequest))
            return await alter(
                db[ErasureRequest], asked, status=ErasureStatus.REFUSED, refusal=ground, decided_at=db.now()
            )

    # -- hold and restriction ------------------------------------------------------------------------------------

    async def hold(self, user: UserLike, *, matter: str) -> LegalHold:
        """Keep a person's data from being erased for a matter (its number); needs "privacy.hold".

        The same matter twice is one hold, and what an erasure had to keep is held too. Raises ``NotFound``, ``Erased``
        for a person of whom nothing is left.
        """
        db, id = self._db, user_id(user)
        await db.require("privacy.hold")
        async with db.transaction():
            # An erasure of this person holds the same row.
            found = await db.users.lock(id)
            if found.status is UserStatus.ERASED and not await is_left(db, id):
                raise Erased("The person was erased; there is nothing to hold.")
            for one in await holds_of(db, id):
                if one.matter == matter:
                    return one
            made = await put(db[LegalHold], LegalHold(user=Ref(id), matter=matter, placed_at=db.now()))
            waiting = await self._open(id)
            if waiting is not None and waiting.status is ErasureStatus.REQUESTED:
                await alter(db[ErasureRequest], waiting, status=ErasureStatus.ON_HOLD)
            return made

    async def release(self, hold: LegalHold | UUID) -> LegalHold:
        """End a hold; with the last one a request that waited for it may be carried out. Needs "privacy.hold"."""
        db, id = self._db, _id(hold, LegalHold)
        await db.require("privacy.hold")
        async with db.transaction():
            found = await db[LegalHold].get(id)
            await db.users.lock(found.user.id)
            found = await db[LegalHold].lock(id)
            if found.released_at is not None:
                return found
            ended = await alter(db[LegalHold], found, released_at=max(db.now(), found.placed_at))
            waiting = await self._open(found.user.id)
            if (
                waiting is not None
                and waiting.status is ErasureStatus.ON_HOLD
                and not await holds_of(db, found.user.id)
            ):
                await alter(db[ErasureRequest], waiting, status=ErasureStatus.REQUESTED)
            return ended

    async def holds(self, user: UserLike) -> list[LegalHold]:
        """The holds that stand on a person."""
        return await holds_of(self._db, user_id(user))

    async def restrict(self, user: UserLike, ground: RestrictionGround) -> Restriction:
        """Stop the use of a person's data: every operation behind a consent is refused (``OnHold``) until it is lifted.

        Operations that are under way end first. Needs "privacy.restrict". One that stands is the answer.
        """
        db, id = self._db, user_id(user)
        await db.require("privacy.restrict")
        if ground.__class__ is not RestrictionGround:
            raise _no_ground("RestrictionGround", RestrictionGround)
        async with db.transaction():
            await db.users.lock(id)
            standing = await self._restriction(id)
            if standing is not None:
                return standing
            # The gate holds the consent it found; whoever is behind it is waited for.
            await db.unit.call(_CONSENTS, (db.tenant_id, id))
            # Written too, so that who has an older snapshot fails at the gate and does not pass by what it shows.
            await db.unit.change(_TOUCH, (db.tenant_id, id))
            return await put(db[Restriction], Restriction(user=Ref(id), ground=ground, placed_at=db.now()))

    async def lift(self, user: UserLike) -> Restriction:
        """End a restriction, after which the person is told (Art. 18(3)). Raises ``NotFound``."""
        db, id = self._db, user_id(user)
        await db.require("privacy.restrict")
        async with db.transaction():
            await db.users.lock(id)
            standing = await self._restriction(id)
            if standing is None:
                raise NotFound("No restriction stands.", entity="Restriction")
            return await alter(db[Restriction], standing, lifted_at=max(db.now(), standing.placed_at))

    async def restriction(self, user: UserLike) -> Restriction | None:
        """The restriction that stands on a person."""
        return await self._restriction(user_id(user))

    # -- retention -----------------------------------------------------------------------------------------------

    async def policies(self) -> dict[str, Policy]:
        """What holds for each retention class: the tenant's own policies over the shipped examples."""
        return await in_force(self._db)

    async def set_policy(
        self,
        data_class: str,
        *,
        basis: LegalBasis,
        reason: str,
        citation: str = "",
        minimum_months: int = 0,
        maximum_months: int | None = None,
        hold: bool = False,
    ) -> RetentionPolicy:
        """Decide how long a class is kept, with the ground; needs "privacy.policies".

        Raises ``Invalid``, for a class too that neither an entity nor an example has.
        """
        db = self._db
        await db.require("privacy.policies")
        if not isinstance(data_class, str) or not _CLASS.fullmatch(data_class):
            raise Invalid(
                "A retention class is a plain lower-case name.", field="data_class", remedy='Write "marketing".'
            )
        known = sorted(known_classes(specs_of(db.entities)))
        if data_class not in known:
            # A minimum on a name that is nobody's would keep nothing.
            raise Invalid(
                "No data is of this retention class.", field="data_class", remedy=f"Classes are: {', '.join(known)}."
            )
        if minimum_months and not citation:
            raise Invalid(
                "A minimum needs the source that asks for it.",
                field="citation",
                remedy='Name it: citation="Regulation B, 12 CFR 1002.12(b)(1)".',
            )
        terms: dict[str, Any] = {
            "basis": basis,
            "reason": reason,
            "citation": citation,
            "minimum_months": minimum_months,
            "maximum_months": maximum_months,
            "hold": hold,
        }
        made = RetentionPolicy(data_class=data_class, **terms)
        return await db[RetentionPolicy].upsert(made, on=RetentionPolicy.data_class)

    async def explain(self) -> list[Line]:
        """What ``sweep`` would do now: how many, of which class and entity, and why; nothing is changed.

        Raises like ``sweep``.
        """
        from tallystick.domains.rights.retention import explain

        await self._db.require("privacy.sweep")
        return await explain(self._db)

    async def sweep(self, *, batch: int = 500) -> AsyncIterator[Batch]:
        """Erase what is due, a batch at a time, each committed: stopped anywhere it is simply run again.

        Raises ``Unsupported`` for an application that knows fewer entities than its database.
        """
        from tallystick.domains.rights.retention import sweep

        await self._db.require("privacy.sweep")
        async for done in sweep(self._db, batch):
            yield done

    # -- access --------------------------------------------------------------------------------------------------

    async def export(
        self, user: UserLike, path: str | PathLike[str], *, reason: str, key: Any = None, over_limit: bool = False
    ) -> Manifest:
        """Write everything that is held about a person to a new folder, signed; see ``export.py``.

        The person asks for themselves, or somebody with "privacy.export"; the reason is recorded, and so is every
        secret that was opened for it. ``key`` signs (Ed25519), by default the sealing key. The data of one person is
        exported three times a day (UTC) at most, attempts that failed half way included; with "privacy.export_tenant",
        ``over_limit`` lifts that, which is recorded, and is not counted. Raises ``RoleMissing``, ``NotFound``,
        ``QuotaExceeded``, ``Invalid`` for a folder that is there, ``NotProvisioned`` without a key.
        """
        from tallystick.domains.rights.export import export_person

        return await export_person(self._db, user_id(user), path, reason, self._signer(key), over_limit=over_limit)

    async def export_tenant(self, path: str | PathLike[str], *, reason: str, key: Any = None) -> Manifest:
        """Write everything the tenant has to a new folder, opened and signed; see ``export.py``."""
        from tallystick.domains.rights.export import export_tenant

        return await export_tenant(self._db, path, reason, self._signer(key))

    async def offboard(self, path: str | PathLike[str], *, confirm: str, reason: str, key: Any = None) -> Offboarded:
        """Export the tenant, close it and end every epoch of its keys; cannot be undone. See ``offboard.py``."""
        from tallystick.domains.rights.offboard import offboard

        return await offboard(self._db, path, confirm=confirm, reason=reason, key=self._signer(key))

    def _signer(self, key: Any) -> Any:
        return self._app.audit.key(make=True) if key is None else key

    # -- inside --------------------------------------------------------------------------------------------------

    async def _open(self, user: UUID) -> ErasureRequest | None:
        found = await self._db[ErasureRequest].find(
            ErasureRequest.user == Ref(user), one_of(ErasureRequest.status, OPEN), limit=1
        )
        return found[0] if found else None

    async def _restriction(self, user: UUID) -> Restriction | None:
        found = await self._db[Restriction].find(Restriction.user == Ref(user), missing(Restriction.lifted_at), limit=1)
        return found[0] if found else None

    async def _set_on_hold(self, request: UUID) -> None:
        db = self._db
        async with db.transaction():
            _, asked = await lock_request(db, request)
            if asked.status is ErasureStatus.REQUESTED:
                await alter(db[ErasureRequest], asked, status=ErasureStatus.ON_HOLD)


def _id(given: Any, kind: type) -> UUID:
    if isinstance(given, UUID):
        return given
    if isinstance(given, kind):
        return given.id  # type: ignore[attr-defined, no-any-return]
    raise Invalid(f"A {kind.__name__} is named by itself or its id.", field="id")


def _no_ground(name: str, kinds: Any) -> Invalid:
    return Invalid(
        "That is no ground.", field="ground", remedy=f"Grounds are: {', '.join(f'{name}.{k.name}' for k in kinds)}."
    )
