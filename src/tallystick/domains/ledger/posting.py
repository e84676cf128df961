"""Writing journals: header and transfers in one statement, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.codec import Codec, codec_of
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.proposals import Proposal
from tallystick.domains.ledger.transfers import MOST_TRANSFERS, Leg, Phase, Transfer
from tallystick.entity import Entity, spec_of
from tallystick.errors import Conflict, Duplicate, Invalid, UnknownReference
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A journal to be posted: its transfers, what kind of operation it is, its business date, what it is about.

    ``on`` None means the tenant's business date of today.
    """

    legs: tuple[Leg, ...]
    op: str
    on: date | None = None
    source: tuple[str, UUID] | None = None
    description: str | None = None
    reverses: UUID | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a command wrote, as it is stored; ``replayed`` says that it was written by an earlier call."""

    journal: Journal
    transfers: tuple[Transfer, ...]
    replayed: bool = False

    @property
    def id(self) -> UUID:
        """The journal's id."""
        return self.journal.id


Written = tuple[Journal, tuple[Transfer, ...]]


def draft(
    legs: Sequence[Leg],
    *,
    op: str,
    on: date | None = None,
    source: Entity | tuple[str, UUID] | None = None,
    description: str | None = None,
) -> Draft:
    """A journal for ``db.ledger.post_many``. ``source`` is the entity it is about, or a table's name and an id."""
    if not isinstance(legs, (list, tuple)) or not legs or not all(leg.__class__ is Leg for leg in legs):
        raise Invalid("A journal needs transfers.", field="legs", remedy="Write [transfer(debit, credit, money)].")
    if len(legs) > MOST_TRANSFERS:
        raise Invalid(f"A journal has at most {MOST_TRANSFERS} transfers.", field="legs", remedy="Split it.")
    about = (spec_of(type(source)).table, source.id) if isinstance(source, Entity) else source
    return Draft(legs=tuple(legs), op=op, on=on, source=about, description=description)


def journal_of(db: Session, given: Draft, proposal: Proposal | None = None) -> Written:
    """The entities of a draft."""
    journal = Journal(
        op=given.op,
        effective=db.today() if given.on is None else given.on,
        reverses=None if given.reverses is None else Ref(given.reverses),
        source=given.source[0] if given.source else None,
        source_id=given.source[1] if given.source else None,
        description=given.description,
        proposal=None if proposal is None else Ref(proposal.id),
    )
    return journal, tuple(row(journal, n, leg) for n, leg in enumerate(given.legs, 1))


def row(journal: Journal, seq: int, leg: Leg, phase: Phase = Phase.POSTED, resolves: UUID | None = None) -> Transfer:
    """A leg as the row of a journal."""
    return Transfer(
        journal=Ref(journal.id),
        seq=seq,
        debit=Ref(leg.debit),
        credit=Ref(leg.credit),
        asset=leg.money.asset,
        amount=leg.money.units,
        phase=phase,
        resolves=None if resolves is None else Ref(resolves),
    )


@lru_cache(maxsize=256)
def insert_sql(journals: int, transfers: int) -> str:
    """The one statement that writes headers and transfers.

    VALUES only: Citus refuses INSERT ... SELECT under row-level security, and one text for both engines is one text
    to trust.
    """
    headers, legs = codec_of(spec_of(Journal)), codec_of(spec_of(Transfer))
    first = len(headers.insert_columns) * journals
    return (
        f"WITH header AS (INSERT INTO {headers.spec.qualified} ({', '.join(headers.insert_columns)}) "
        f"VALUES {_places(headers, journals, 0)}) "
        f"INSERT INTO {legs.spec.qualified} ({', '.join(legs.insert_columns)}) "
        f"VALUES {_places(legs, transfers, first)} RETURNING created_at, created_by"
    )


def _places(codec: Codec, rows: int, before: int) -> str:
    width = len(codec.insert_columns)
    types = [codec.spec.column(name).sql.partition(" COLLATE")[0] for name in codec.insert_columns]
    return ", ".join(
        "(" + ", ".join(f"${before + r * width + i}::{sql}" for i, sql in enumerate(types, 1)) + ")"
        for r in range(rows)
    )


async def write(db: Session, written: Sequence[Written]) -> list[Written]:
    """Insert journals with their transfers and answer them as stored; the database maintains the balances.

    Raises ``InsufficientFunds`` for an account below its floor, ``UnknownReference`` for an account that does not
    exist or has another asset, ``Conflict`` for a closed period and for what was reversed or resolved already,
    ``Denied`` above the tenant's limits.
    """
    headers, legs = codec_of(spec_of(Journal)), codec_of(spec_of(Transfer))
    header_rows = [headers.encode(j, db.tenant_id, db.sealer) for j, _ in written]
    leg_rows = [[legs.encode(t, db.tenant_id, db.sealer) for t in ts] for _, ts in written]
    flat = [r for rs in leg_rows for r in rs]
    if len(flat) > MOST_TRANSFERS:
        raise Invalid(f"One call posts at most {MOST_TRANSFERS} transfers.", field="legs", remedy="Make several calls.")
    args = [v for r in (*header_rows, *flat) for v in r]
    try:
        rows = await db.unit.call(insert_sql(len(written), len(flat)), args, legs.spec)
    except Duplicate as taken:
        raise _again(taken) from None
    except UnknownReference as missing:
        raise _unknown(missing) from None
    at, by = rows[0]
    stamps = (1, at, by, at, by)
    tenant = db.tenant_id
    return [
        (
            headers.stamped(j, tenant, stamps, header),
            tuple(legs.stamped(t, tenant, stamps, r) for t, r in zip(ts, rs, strict=True)),
        )
        for (j, ts), header, rs in zip(written, header_rows, leg_rows, strict=True)
    ]


_TAKEN: dict[str, tuple[str, str]] = {
    "uq_transfer_resolves_id": ("The pending transfer is settled or void already.", "Transfer"),
    "uq_journal_reverses_id": ("The journal is reversed already.", "Journal"),
    "uq_journal_proposal_id": ("The proposal is posted already.", "Proposal"),
}


def _again(taken: Duplicate) -> Conflict:
    known = _TAKEN.get(taken.rule)
    if known is None:
        return taken
    problem, entity = known
    return Conflict(problem, entity=entity, rule=taken.rule, remedy="Read what was done; it is done once.")


def _unknown(missing: UnknownReference) -> UnknownReference:
    if missing.field not in ("debit", "credit"):
        return missing
    return UnknownReference(
        f"The {missing.field} account of a transfer does not exist or is not of the transfer's asset.",
        entity="Transfer",
        field=missing.field,
        remedy="Check the account and the amount's asset; ledger.exchange() goes from one asset to another.",
    )


def request_of(given: Draft) -> dict[str, Any]:
    """What tells one posting from another, for its idempotency key."""
    return {name: getattr(given, name) for name in given.__struct_fields__}
