"""Who read what: entities that declare ``audit_reads`` are read in one transaction with an entry that says so.

A store's unit is wrapped where the application has such an entity, and only there. Every verb reads through the unit,
those that follow references too, so none is forgotten when a verb is added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import msgspec

from tallystick.errors import Unsupported

if TYPE_CHECKING:
    from datetime import timedelta

    from tallystick.codec import Codec
    from tallystick.conditions import Query
    from tallystick.spec import EntitySpec, IndexSpec
    from tallystick.stores.base import Isolation, Unit

R = TypeVar("R")
MANY = "*"
"""The key of an entry about several rows; they are listed in its event."""
_KEYS = 2_000
_RECORD = "SELECT tally_audit.record('R', $1, $2, $3::jsonb)"


class ReadingUnit:
    """A unit that writes reads down; everything else goes straight through."""

    __slots__ = ("_fresh", "_read_only", "_tables", "_unit")

    def __init__(self, unit: Unit, fresh: Callable[[], Unit], watched: frozenset[str]) -> None:
        self._unit = unit
        self._fresh = fresh
        self._tables = watched
        self._read_only = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unit, name)

    async def begin(self, isolation: Isolation | None, *, read_only: bool) -> None:
        """Open a transaction; a read-only one cannot hold entries, which is said when something would be read."""
        await self._unit.begin(isolation, read_only=read_only)
        self._read_only = read_only or (self._read_only and self._unit.depth > 1)

    async def get(self, codec: Codec, id: UUID) -> Any:
        """The row of an id, and that it was asked for."""
        if not codec.spec.audit_reads:
            return await self._unit.get(codec, id)
        return await self._reading(
            codec.spec, "get", lambda unit: unit.get(codec, id), lambda row: ([str(id)], int(row is not None))
        )

    async def select(self, codec: Codec, query: Query) -> list[Any]:
        """The rows of a query, and which they were."""
        if not codec.spec.audit_reads:
            return cast("list[Any]", await self._unit.select(codec, query))
        return await self._reading(
            codec.spec, query.verb, lambda unit: unit.select(codec, query), lambda rows: _ids(codec, rows)
        )

    async def count(self, codec: Codec, query: Query) -> int:
        """How many rows match, and that it was asked."""
        if not codec.spec.audit_reads:
            return await self._unit.count(codec, query)
        return await self._reading(codec.spec, "count", lambda unit: unit.count(codec, query), lambda n: ([], n))

    async def exists(self, codec: Codec, query: Query) -> bool:
        """Whether any row matches, and that it was asked."""
        if not codec.spec.audit_reads:
            return await self._unit.exists(codec, query)
        return await self._reading(codec.spec, "exists", lambda unit: unit.exists(codec, query), lambda n: ([], int(n)))

    async def upsert(self, codec: Codec, rule: IndexSpec, params: list[Any]) -> Any:
        """Write or replace a row; it answers what was there, so it is a read too."""
        if not codec.spec.audit_reads:
            return await self._unit.upsert(codec, rule, params)
        return await self._reading(
            codec.spec,
            "upsert",
            lambda unit: unit.upsert(codec, rule, params),
            lambda row: _ids(codec, [] if row is None else [row]),
        )

    async def claim(self, codec: Codec, limit: int, lease: timedelta, token: UUID) -> list[Any]:
        """Lease work items, and which were handed out."""
        if not codec.spec.audit_reads:
            return cast("list[Any]", await self._unit.claim(codec, limit, lease, token))
        return await self._reading(
            codec.spec, "claim", lambda unit: unit.claim(codec, limit, lease, token), lambda rows: _ids(codec, rows)
        )

    async def fetch(self, statement: Any) -> list[Mapping[str, Any]]:
        """Run the application's own SELECT, and write down the tables that it reads."""
        from tallystick.stores.postgres.statements import tables_of

        tables = sorted(tables_of(statement) & self._tables)
        if not tables:
            return await self._unit.fetch(statement)

        async def work(unit: Unit) -> list[Mapping[str, Any]]:
            rows = await unit.fetch(statement)
            for table in tables:
                await _record(unit, table, "fetch", [], len(rows))
            return rows

        return await self._together(work)

    async def explain(
        self, codec: Codec | None, asked: Any, *, analyze: bool
    ) -> tuple[Mapping[str, Any], Mapping[str, float]]:
        """The plan of a query, not run: what came of it would be a read that nobody wrote down."""
        if analyze:
            from tallystick.stores.postgres.statements import tables_of

            if self._tables & (tables_of(asked) if codec is None else {codec.spec.table}):
                raise Unsupported(
                    "Who reads this is written down, so explain() does not run it.", remedy="Leave analyze=True out."
                )
        return await self._unit.explain(codec, asked, analyze=analyze)

    async def call(self, sql: str, args: Sequence[Any], spec: EntitySpec | None = None) -> list[Any]:
        """Run one of the library's own statements; what it does to an entity that is watched is written down."""
        if spec is None or not spec.audit_reads:
            return cast("list[Any]", await self._unit.call(sql, args, spec))
        return await self._reading(spec, "call", lambda unit: unit.call(sql, args, spec), lambda rows: ([], len(rows)))

    async def _reading(
        self,
        spec: EntitySpec,
        verb: str,
        read: Callable[[Unit], Awaitable[R]],
        keys: Callable[[R], tuple[list[str], int]],
    ) -> R:
        async def work(unit: Unit) -> R:
            found = await read(unit)
            await _record(unit, spec.table, verb, *keys(found))
            return found

        return await self._together(work)

    async def _together(self, work: Callable[[Unit], Awaitable[R]]) -> R:
        """In the open transaction, or in one of its own on a unit of its own: tasks may share a session for reads."""
        if self._unit.depth:
            if self._read_only:
                raise Unsupported(
                    "Who reads this is written down, which a read-only transaction cannot do.",
                    remedy="Open the transaction without read_only=True.",
                )
            return await work(self._unit)
        unit = self._fresh()
        await unit.begin(None, read_only=False)
        try:
            found = await work(unit)
        except BaseException:
            await unit.rollback()
            raise
        await unit.commit()
        return found


def _ids(codec: Codec, rows: Sequence[Any]) -> tuple[list[str], int]:
    at = codec.spec.read_columns.index("id")
    return [str(row[at]) for row in rows], len(rows)


async def _record(unit: Unit, table: str, verb: str, keys: list[str], rows: int) -> None:
    key = keys[0] if len(keys) == 1 else MANY
    for start in range(0, max(1, len(keys)), _KEYS):
        event = {"verb": verb, "rows": rows, "keys": keys[start : start + _KEYS]}
        await unit.call(_RECORD, (table, key, msgspec.json.encode(event).decode()))
