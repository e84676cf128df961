"""Where persons' data is: worked out from the declarations, for erasure, export, retention and masking alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tallystick.domains.identity.users import User
from tallystick.entity import Entity, spec_of
from tallystick.errors import Unsupported

if TYPE_CHECKING:
    from tallystick.session import Session
    from tallystick.spec import EntitySpec

_USERS = spec_of(User).table


def specs_of(entities: Iterable[type[Entity]]) -> list[EntitySpec]:
    """The specs of entities, by table."""
    return sorted(map(spec_of, entities), key=lambda s: s.table)


def subject_column(spec: EntitySpec) -> str | None:
    """The column that names the person whose data a row is; None where a row is its own subject."""
    return None if spec.subject is None else spec.fields[spec.subject].column


def person_columns(spec: EntitySpec) -> list[str]:
    """Every column of an entity that names a user account; the id of a user account itself."""
    if spec.table == _USERS:
        return ["id"]
    return [f.columns[1] for f in spec.foreign_keys if f.table == _USERS]


def personal(specs: Iterable[EntitySpec]) -> list[EntitySpec]:
    """The entities whose sealed fields are a user account's data."""
    return [s for s in specs if s.sealed and (s.table == _USERS or _is_persons(s))]


def parents(specs: list[EntitySpec]) -> list[tuple[EntitySpec, frozenset[str]]]:
    """Persons' entities whose rows are the subjects of other entities' sealed fields, with the classes of those.

    A notice is about an application, and under a key of that row.
    """
    found: list[tuple[EntitySpec, frozenset[str]]] = []
    for parent in personal(specs):
        classes = {
            purpose
            for spec in specs
            if spec.sealed and parent.table != _USERS and parent.table == _subject_table(spec)
            for purpose in spec.purposes
        }
        if classes:
            found.append((parent, frozenset(classes)))
    return found


def _subject_table(spec: EntitySpec) -> str | None:
    column = subject_column(spec)
    return next((f.table for f in spec.foreign_keys if f.columns[-1] == column and len(f.columns) > 1), None)


def classes_of(specs: Iterable[EntitySpec]) -> list[str]:
    """The classes in which persons have data keys."""
    return sorted({purpose for spec in personal(specs) for purpose in spec.purposes})


def _is_persons(spec: EntitySpec) -> bool:
    return _subject_table(spec) == _USERS


async def all_declared(db: Session) -> None:
    """Raise ``Unsupported`` where the tenant has sealed values in tables that this application has no entity for.

    Their minimums and their indexes would be unknown, and a person erased by halves.
    """
    known = [s.table for s in specs_of(db.entities)]
    for (table,) in await db.unit.call(_SEALED, (known,)):
        if await db.unit.call(f'SELECT 1 FROM tally."{table}" t WHERE t.tenant_id = $1 LIMIT 1', (db.tenant_id,)):
            raise Unsupported(
                f"The tenant has sealed values in {table}, of which this application does not know.",
                remedy="Open it with all that the database has: Tallystick.open(domains=..., entities=...).",
            )


# Whatever has sealed columns has the guard of them.
_SEALED = (
    "SELECT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE c.relnamespace = 'tally'::regnamespace AND p.pronamespace = 'tally'::regnamespace "
    "AND p.proname = 'sealed_live' AND NOT t.tgisinternal AND c.relname <> ALL ($1::text[]) ORDER BY 1"
)


def rows_of(spec: EntitySpec, persons: str = "$2") -> str:
    """The condition that a row ``t`` is one of these persons' (a uuid[] parameter), by its own id or its subject."""
    column = subject_column(spec)
    return (
        f"(t.id = ANY ({persons}))" if column is None else f"(t.id = ANY ({persons}) OR t.{column} = ANY ({persons}))"
    )


def touches(specs: list[EntitySpec], data_class: str, person: str) -> list[tuple[str, str]]:
    """Where a class has rows that are about a person: the column that says when one was last changed, and FROM what.

    A row is about a person that it names, and so is one that refers to such a row: a payment is of its loan's borrower.
    ``person`` is who, as SQL; the tenant is $1.
    """
    columns = {s.table: person_columns(s) for s in specs}
    found: list[tuple[str, str]] = []
    for spec in specs:
        if spec.retain != data_class and data_class not in spec.purposes:
            continue
        at = "t.updated_at" if any(c.name == "updated_at" for c in spec.columns) else "t.created_at"
        rows = f"FROM tally.{spec.table} t"
        found += [(at, f"{rows} WHERE t.tenant_id = $1 AND t.{column} = {person}") for column in columns[spec.table]]
        for key in spec.foreign_keys:
            for column in () if key.table == _USERS else columns.get(key.table, ()):
                parent = f"JOIN tally.{key.table} p ON p.tenant_id = t.tenant_id AND p.id = t.{key.columns[1]}"
                found.append((at, f"{rows} {parent} WHERE t.tenant_id = $1 AND p.{column} = {person}"))
    return found
