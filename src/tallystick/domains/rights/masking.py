"""Masked copies: a tenant's rows in another database, with synthetic persons in place of the real ones.

Every sealed value is opened, replaced by a made-up one of its form and sealed again under keys of the copy; blind
indexes are of the new values. Ids, references, amounts and dates stay, so everything still fits together: a copy is of
nobody for who has only the copy, and still of somebody for who knows production's ids. Notes, readable words about
somebody, addresses of wallets and names of actors are made up or left out too. The audit log, data keys and credentials
are not copied.

The copy is made in one transaction of the owner of the other database, who switches the triggers of the copied tables
off and on again inside it: they would judge every row as news. Whatever fails takes all of it back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
import msgspec

from tallystick.domains.identity.custom_fields import CustomField
from tallystick.domains.rights.gather import CREDENTIALS, WITHHELD, actor_shown
from tallystick.domains.rights.places import all_declared, specs_of
from tallystick.domains.rights.synthetic import Synthetic
from tallystick.errors import Conflict, Erased, Invalid, Unsupported
from tallystick.ids import uuid7
from tallystick.privacy.cells import ERASED, Opener, Writer
from tallystick.privacy.envelope import DataKey, seal
from tallystick.privacy.keyring import HeldKey, Keyring, Owner, wrap_context
from tallystick.privacy.sealed import mask_of
from tallystick.privacy.sealer import Sealer
from tallystick.rules import Readable
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.privacy.keys import KeyProvider
    from tallystick.session import Session
    from tallystick.spec import EntitySpec, FieldSpec

_LEFT_OUT: Final = WITHHELD | {
    "data_key",
    "key_state",
    "index_state",
    "login_throttle",
    "external_identity",
    "command_key",
    # A copy sends nothing to anybody.
    "outbox_message",
    "outbox_lane",
}
_USERS: Final = "user_account"
_ACTORS: Final = frozenset({"created_by", "updated_by"})
_BY_ACCOUNT: Final = re.compile(r"user:[0-9a-f-]{36}")
_NOBODY: Final = UUID(int=0)
_FREE: Final = (dict[str, Any], list[Any])
_BATCH: Final = 1_000
_NOTE: Final = "masked"


class Masked(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied: the tenant that was made, its rows by table, and how many values were made up."""

    tenant: UUID
    slug: str
    rows: dict[str, int]
    values: int


class _Table(msgspec.Struct, frozen=True):
    name: str
    columns: list[str]
    key: list[str]
    refers: list[str]
    triggers: list[str]


async def mask_into(
    db: Session, target: asyncpg.Connection, keys: KeyProvider, *, slug: str, run_key: bytes | None = None
) -> Masked:
    """Copy the session's tenant into another database, masked, as a new tenant with this slug.

    ``target`` is a connection that acts as the owner role of a migrated database, ``keys`` are the copy's own. The same
    ``run_key`` makes the same persons again; without one it is random and forgotten. Needs "privacy.mask". Raises
    ``Invalid`` for a schema of another version, ``Duplicate`` for a slug that is taken, ``Unsupported``.
    """
    await db.require("privacy.mask")
    await all_declared(db)
    copy = _Copy(db, target, keys, Synthetic(run_key if run_key is not None else os.urandom(32)))
    state = ""
    try:
        async with db.transaction("repeatable read"), target.transaction():
            return await copy.run(slug)
    except asyncpg.PostgresError as problem:
        # Its message may quote a row.
        state = str(getattr(problem, "sqlstate", ""))
    raise Conflict(
        f"The other database refused the copy, and has nothing of it (SQLSTATE {state}).",
        remedy="Check that the connection acts as its owner role, and that both are of one version.",
    )


class _Copy:
    def __init__(self, db: Session, target: asyncpg.Connection, keys: KeyProvider, synthetic: Synthetic) -> None:
        self._db = db
        self._target = target
        self._keyring = Keyring(keys)
        self._synthetic = synthetic
        self._specs = {s.table: s for s in specs_of(db.entities)}
        self._tenant = uuid7()
        self._sealer = Sealer(self._keyring, _Place(self._tenant))  # type: ignore[arg-type]
        self._owned: dict[Owner, HeldKey] = {}
        self._defined: dict[str, dict[str, CustomField]] = {}
        self._values = 0

    async def run(self, slug: str) -> Masked:
        there = {t.name: t for t in map(_table, await self._db.unit.call(_TABLES, ()))}
        here = {t.name: t for t in map(_table, await self._target.fetch(_TABLES))}
        unlike = sorted(n for n in there if n not in here or sorted(here[n].columns) != sorted(there[n].columns))
        if unlike:
            raise Invalid(
                f"The other database has not the same tables ({unlike[0]} first).",
                remedy="Migrate both with one version and the same entities.",
            )
        if CustomField in self._db.entities:
            for one in await self._db[CustomField].find():
                self._defined.setdefault(one.entity, {})[one.name] = one
        await self._begin(slug)
        rows: dict[str, int] = {}
        tables = [here[n] for n in _ordered(there.values())]
        for table in tables:
            for trigger in table.triggers:
                await self._target.execute(f'ALTER TABLE tally."{table.name}" DISABLE TRIGGER "{trigger}"')
        for table in tables:
            rows[table.name] = await self._copied(there[table.name])
        for table in tables:
            for trigger in table.triggers:
                await self._target.execute(f'ALTER TABLE tally."{table.name}" ENABLE ALWAYS TRIGGER "{trigger}"')
        return Masked(tenant=self._tenant, slug=slug, rows={n: c for n, c in rows.items() if c}, values=self._values)

    async def _begin(self, slug: str) -> None:
        taken = await self._target.fetchval("SELECT count(*) FROM tally_ref.tenant WHERE slug = $1", slug)
        if taken:
            raise Conflict("The other database has a tenant of this slug.", remedy="Choose another slug.")
        await self._target.execute("SELECT set_config('tally.actor', 'system:mask', true)")
        await self._target.execute("SELECT set_config('tally.tenant', tally_sec.token($1), true)", self._tenant)
        options = {"time_zone": self._db.tenant.time_zone}
        await self._target.execute(
            "SELECT tally_ref.tenant_create($1, $2, $3, $4::jsonb)",
            self._tenant,
            slug,
            f"Masked {slug}",
            msgspec.json.encode(options).decode(),
        )

    async def _copied(self, table: _Table) -> int:
        spec, after, total = self._specs.get(table.name), None, 0
        names = ", ".join(f't."{c}"' for c in table.columns)
        order = ", ".join(f't."{c}"' for c in table.key)
        into = ", ".join(f'"{c}"' for c in table.columns)
        places = ", ".join(f"${i}" for i in range(1, len(table.columns) + 1))
        insert = f'INSERT INTO tally."{table.name}" ({into}) VALUES ({places})'
        at = [table.columns.index(c) for c in table.key]
        while True:
            past, values = "", [self._db.tenant_id]
            if after is not None:
                past = f"AND ({order}) > ({', '.join(f'${i}' for i in range(2, 2 + len(after)))})"
                values += after
            found = await self._db.unit.call(
                f'SELECT {names} FROM tally."{table.name}" t WHERE t.tenant_id = $1 {past} '
                f"ORDER BY {order} LIMIT {_BATCH}",
                values,
            )
            rows = [dict(zip(table.columns, row, strict=True)) for row in found]
            if spec is not None:
                await self._mask(spec, rows)
            for row in rows:
                row["tenant_id"] = self._tenant
                row.update({n: _actor(row[n]) for n in _ACTORS & row.keys()})
            await self._target.executemany(insert, [tuple(row[c] for c in table.columns) for row in rows])
            total += len(rows)
            if len(rows) < _BATCH:
                return total
            after = [found[-1][i] for i in at]

    async def _mask(self, spec: EntitySpec, rows: list[dict[str, Any]]) -> None:
        for name, why in spec.readable.items():
            if why in (Readable.NOTE, Readable.BY_ID):
                field = spec.fields[name]
                for row in rows:
                    if row[name]:
                        row[name] = self._blotted(spec, field, why, row[name])
        if spec.table == _USERS:
            for row in rows:
                row.update(dict.fromkeys(CREDENTIALS) | {"mfa_enabled": False})
        fields = [f for f in spec.fields.values() if f.sealed]
        wanted = {row[f.name][2:18] for row in rows for f in fields if row[f.name] is not None}
        if not wanted:
            return
        held = await self._db.sealer.keyring().load(self._db.unit, wanted)
        await self._make({(k.subject, f.purpose) for k in held.values() for f in fields})
        opener = Opener(self._db.tenant_id, held)
        for row in rows:
            keys = {
                (row["id"], f.purpose): self._owned[held[row[f.name][2:18]].subject, f.purpose]
                for f in fields
                if row[f.name] is not None
            }
            writer = Writer(self._sealer, keys)
            for field in fields:
                if row[field.name] is not None:
                    self._replace(spec, field, row, opener, writer)

    def _blotted(self, spec: EntitySpec, field: FieldSpec, why: Readable, value: Any) -> Any:
        """What is readable about somebody: words made up, numbers and codes as they are."""
        place = f"{spec.table}.{field.name}"
        if field.kind is Kind.BYTES:
            return self._synthetic.raw(place, value)
        if field.kind is Kind.TEXT:
            return _NOTE[: field.max_length or 100] if why is Readable.NOTE else self._synthetic.words(place, value)
        if field.kind is Kind.JSON and field.python in _FREE:
            return msgspec.json.encode(self._synthetic.words(place, msgspec.json.decode(value))).decode()
        return value

    def _replace(self, spec: EntitySpec, field: Any, row: dict[str, Any], opener: Opener, writer: Writer) -> None:
        try:
            value = opener.reveal(spec.table, field, row[field.name], row["id"])
            if field.custom and isinstance(value, dict):
                value = self._synthetic.document(spec.table, field, value, self._defined.get(spec.table, {}))
            else:
                value = self._synthetic.value(spec.table, field, value)
        except Erased:
            value = None
        if value is None:
            # Nothing is left of an erased person to keep the form of.
            if field.optional or field.inner is not str:
                row.update({c.name: None for c in field.columns})
                return
            value = ERASED
        self._values += 1
        row[field.name] = writer.seal(spec.table, field, value, row["id"])
        if field.search is not None:
            columns = [(b.index_column, b.next_column) for b in field.blind]
            made = iter(writer.indexes(spec.table, field, value))
            for pair in columns:
                # The copy starts with the first generation of its own index keys, which stands in the first column.
                indexed = any(row[name] is not None for name in pair)
                first, _ = next(made), next(made)
                row.update(zip(pair, (first if indexed else None, None), strict=True))
        if field.mask_last is not None:
            row[field.mask_column] = writer.seal_mask(spec.table, field, mask_of(value, field.mask_last), row["id"])

    async def _make(self, owners: set[Owner]) -> None:
        """Keys of the copy, for the same persons and classes."""
        missing = sorted(owners - self._owned.keys())
        if not missing:
            return
        epoch = await self._keyring.current_epoch(self._tenant)
        wrapping = (await self._keyring.epoch_keys(self._tenant, (epoch,)))[epoch]
        if wrapping is None:
            raise Unsupported("The key epoch of the copy has ended.", remedy="Use keys of the copy's own.")
        rows = []
        for subject, purpose in missing:
            material = os.urandom(32)
            key = DataKey(material)
            self._owned[subject, purpose] = HeldKey(key, subject)
            wrapped = seal(wrapping, material, wrap_context(self._tenant, subject, purpose))
            rows.append((self._tenant, subject, purpose, key.key_id, wrapped, epoch))
        await self._target.executemany(_KEYS, rows)


class _Place:
    """What a sealer needs to know of where it seals."""

    def __init__(self, tenant: UUID) -> None:
        self.tenant = tenant


def _actor(actor: str | None) -> str | None:
    """Who did it, as the copy may know: an account by its id, which stays, and anybody else by kind."""
    return actor if actor is None or _BY_ACCOUNT.fullmatch(actor) else actor_shown(actor, _NOBODY)


def _table(row: Sequence[Any]) -> _Table:
    return _Table(row[0], list(row[1]), list(row[2]), list(row[3]), list(row[4]))


def _ordered(tables: Iterable[_Table]) -> list[str]:
    """Tables after those they refer to."""
    found = {t.name: t for t in tables if t.name not in _LEFT_OUT}
    graph = {n: {r for r in t.refers if r in found and r != n} for n, t in found.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        pass
    raise Unsupported("Tables refer to each other in a circle, which a copy in one pass cannot keep.")


_TABLES: Final = """
SELECT c.relname::text,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attgenerated = '' ORDER BY a.attnum),
  ARRAY(SELECT a.attname::text FROM pg_constraint k, unnest(k.conkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.n
    WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attname <> 'tenant_id' ORDER BY u.o),
  ARRAY(SELECT DISTINCT f.relname::text FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
    WHERE k.conrelid = c.oid AND k.contype = 'f' AND f.relnamespace = c.relnamespace),
  ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
FROM pg_class c WHERE c.relnamespace = 'tally'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1
"""
_KEYS: Final = (
    "INSERT INTO tally.data_key (tenant_id, subject, class, key_id, wrapped, epoch) VALUES ($1, $2, $3, $4, $5, $6)"
)
