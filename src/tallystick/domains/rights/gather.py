"""Gathering: which rows are a person's, and what of them may be shown to that person.

Rows that name the person are theirs; so are rows that refer to nobody's but theirs (the payments of their loan). Where
a row is shared, the other's part is left out: their sealed fields, their id, and which employee did what (the person
has a right to when and why, not to who it was: CJEU C-579/21).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.domains.rights.places import person_columns, personal, subject_column
from tallystick.errors import Erased
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.privacy.envelope import key_id_of
from tallystick.privacy.sealed import Secret, ciphertext_of
from tallystick.query import one_of
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.session import Session
    from tallystick.spec import EntitySpec

SOMEBODY: Final = "another person"
CREDENTIALS: Final = frozenset({"password_hash", "mfa_secret"})
"""Fields that are keys to an account and no information about anybody."""
WITHHELD: Final = frozenset({"login_token", "authenticator", "recovery_code"})
"""Tables of credentials."""
_AT_ONCE: Final = 1_000

# Where a row has several parents, the one that says whose it is; None where it is nobody's alone.
_THROUGH: Final[Mapping[str, str | None]] = {
    "decision": "application_id",
    "adverse_action_notice": "application_id",
    "review_task": "application_id",
    "counter_offer": "application_id",
    "lender_payout": "funding_id",
    "contribution": "member_id",
    "payout": "member_id",
    "bid": "member_id",
    "group_round": None,
}


async def rows_of_person(db: Session, specs: list[EntitySpec], person: UUID) -> dict[str, list[UUID]]:
    """The ids of a person's rows, by table."""
    found: dict[str, list[UUID]] = {}
    left = [s for s in specs if s.schema == "tally" and s.table not in WITHHELD]
    while left:
        waiting = {s.table for s in left}
        ready = [s for s in left if not ({f.table for f in s.foreign_keys} - {s.table}) & waiting] or left
        for spec in ready:
            where, values = _whose(spec, found, person)
            if where:
                rows = await db.unit.call(
                    f"SELECT t.id FROM tally.{spec.table} t WHERE t.tenant_id = $1 AND {where} ORDER BY t.id",
                    (db.tenant_id, *values),
                )
                if rows:
                    found[spec.table] = [row[0] for row in rows]
        left = [s for s in left if s not in ready]
    return found


def _whose(spec: EntitySpec, found: Mapping[str, list[UUID]], person: UUID) -> tuple[str, list[Any]]:
    """The condition that a row is the person's, with its values; empty where none can be."""
    if spec.table not in _THROUGH and (columns := person_columns(spec)):
        return f"({' OR '.join(f't.{c} = $2' for c in columns)})", [person]
    through = _THROUGH.get(spec.table, "")
    if through is None:
        return "", []
    keys = [f for f in spec.foreign_keys if f.table != spec.table and len(f.columns) > 1]
    if through:
        keys = [f for f in keys if f.columns[1] == through and f.table in found]
        return (f"t.{through} = ANY ($2)", [found[keys[0].table]]) if keys else ("", [])
    keys = [f for f in keys if f.table in found]
    parts = [f"(t.{f.columns[1]} IS NULL OR t.{f.columns[1]} = ANY (${n}))" for n, f in enumerate(keys, start=2)]
    if not parts:
        return "", []
    some = " OR ".join(f"t.{f.columns[1]} IS NOT NULL" for f in keys)
    return f"{' AND '.join(parts)} AND ({some})", [found[f.table] for f in keys]


async def documents(
    db: Session, spec: EntitySpec, ids: list[UUID], person: UUID | None
) -> tuple[list[dict[str, Any]], list[tuple[UUID, str]]]:
    """Rows as plain documents, and which secrets were opened for it. ``person`` None shows everything (a tenant's)."""
    made: list[dict[str, Any]] = []
    opened: list[tuple[UUID, str]] = []
    repository = db[spec.cls]
    for start in range(0, len(ids), _AT_ONCE):
        where = one_of(spec.cls.id, ids[start : start + _AT_ONCE])
        entities = await repository._select(repository._query((where,), (), archived=True))
        secrets = await _secrets(db, spec, entities, person)
        opened += [place for place, value in secrets.items() if value is not None]
        made += [_document(spec, entity, secrets, person) for entity in entities]
    return made, opened


async def _secrets(
    db: Session, spec: EntitySpec, entities: list[Any], person: UUID | None
) -> dict[tuple[UUID, str], Any]:
    fields = [f for f in spec.fields.values() if f.kind is Kind.SECRET and f.name not in CREDENTIALS]
    held: dict[tuple[UUID, str], bytes] = {}
    for entity in entities:
        if _is_of(spec, entity, person):
            for field in fields:
                if (value := getattr(entity, field.name)) is not None:
                    held[entity.id, field.name] = ciphertext_of(value)
    if not held:
        return {}
    opener = await db.sealer.opener_of({key_id_of(e) for e in held.values()}, await db.sealer.generation())
    found: dict[tuple[UUID, str], Any] = {}
    for (row, name), envelope in held.items():
        try:
            found[row, name] = opener.reveal(spec.table, spec.fields[name], envelope, row)
        except Erased:
            found[row, name] = None
    return found


def _document(
    spec: EntitySpec, entity: Any, secrets: Mapping[tuple[UUID, str], Any], person: UUID | None
) -> dict[str, Any]:
    mine = _is_of(spec, entity, person)
    made: dict[str, Any] = {}
    for name, field in spec.fields.items():
        value = getattr(entity, name)
        if name in CREDENTIALS or name == "tenant_id" or (field.sealed and not mine):
            continue
        if field.kind is Kind.SECRET:
            value = secrets.get((entity.id, name))
        elif name in ("created_by", "updated_by"):
            value = actor_shown(value, person)
        elif field.kind is Kind.REF and person is not None and _names_person(spec, field.column):
            value = value if value is None or value.id == person else SOMEBODY
        made[name] = plain(value)
    return made


def _is_of(spec: EntitySpec, entity: Any, person: UUID | None) -> bool:
    """Whether the sealed fields of a row are this person's; one that names nobody is whose it was found by."""
    if person is None or spec.subject is None or not personal([spec]):
        # A row about another row was found by that one: a notice by its application.
        return True
    named = getattr(entity, spec.subject)
    return named is None or named.id == person


def _names_person(spec: EntitySpec, column: str) -> bool:
    return column in person_columns(spec) or column == subject_column(spec)


def actor_shown(actor: str | None, person: UUID | None) -> str | None:
    """An actor as the person may see it: themselves by name, anybody else by kind ("user", "job")."""
    if actor is None or person is None or actor == f"user:{person}":
        return actor
    return actor.partition(":")[0] if ":" in actor else "somebody"


def plain(value: Any) -> Any:
    """A value as JSON has it: amounts as decimal text with their asset, moments in ISO 8601, bytes in hex."""
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Ref):
        return str(value.id)
    if isinstance(value, Money):
        return {"amount": str(value.amount), "asset": value.asset}
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, Secret):
        return value.mask
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return plain(msgspec.to_builtins(value, enc_hook=plain))


def schema_of(specs: list[EntitySpec]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the documents of each table mean, from the declarations."""
    for spec in specs:
        fields = {
            name: {"kind": field.kind.value, "optional": field.optional, "personal": field.sealed}
            for name, field in spec.fields.items()
            if name not in CREDENTIALS and name != "tenant_id"
        }
        yield spec.table, {"entity": spec.name, "about": spec.doc, "class": spec.retain, "fields": fields}
