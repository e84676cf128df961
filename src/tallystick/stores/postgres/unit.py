"""One tenant and actor on PostgreSQL: how statements reach a connection that is surely set for that tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.errors import CommitUnknown, TallystickError
from tallystick.stores.postgres.compile import Compiler
from tallystick.stores.postgres.errors import cut_off, translate
from tallystick.stores.postgres.transaction import STATEMENT_FAILURES, PostgresTransaction

if TYPE_CHECKING:
    from tallystick.codec import Codec
    from tallystick.conditions import Query
    from tallystick.spec import EntitySpec, IndexSpec
    from tallystick.stores.postgres.store import PostgresStore

_WRITES = frozenset({"add", "update"})
_CHUNK = 10_000


class PostgresUnit(PostgresTransaction):
    """A session's hand on the store. Outside a transaction each call borrows a link; inside, all share one.

    A read or a single write outside a transaction takes one round trip on a link that already carries the tenant:
    a write brings its actor as a bind of the same statement. Behind a transaction pooler or on Citus, where session
    settings cannot be trusted, every call is a transaction of its own instead, and so is a write that has a reason or
    a request to carry.
    """

    __slots__ = ("_direct", "_lone")

    def __init__(
        self, store: PostgresStore, tenant: UUID, actor: str, reason: str | None = None, request: str | None = None
    ) -> None:
        super().__init__(store, tenant, actor, reason, request)
        self._lone = store.affine and reason is None and request is None
        self._direct = store.affine and (request is None or not store.labels)

    # -- running statements --------------------------------------------------------------------------------------

    async def _run(
        self,
        sql: str,
        args: Sequence[Any],
        spec: EntitySpec | None = None,
        verb: str = "",
        said: str = "",
        *,
        one: bool = False,
    ) -> Any:
        """The rows of a statement, or ``one`` row or None. ``said`` is what the verb is called to whoever watches."""
        link = self._link
        store = self._store
        if link is None and not self._direct:
            rows = await self._alone(sql, args, spec, verb, said)
            return rows if not one else rows[0] if rows else None
        seeing = store.seeing
        if seeing is not None:
            sql = seeing.marked(sql, spec, said or verb)
        problem: Exception
        began = perf_counter()
        try:
            if link is not None:
                self._mine()
                found = await (link.row if one else link.rows)(sql, args)
            else:
                link = store.pool.take(self._tag) or await store.pool.acquire(self._tag)
                try:
                    found = await (link.row if one else link.rows)(sql, args)
                finally:
                    store.pool.release(link)
            store.meter.done(spec, verb, began)
            if seeing is not None:
                count = int(found is not None) if one else len(found)
                seeing.done(sql, spec, said or verb, began, rows=count, request=self.request)
            return found
        except STATEMENT_FAILURES as caught:
            problem = caught
        except TallystickError as refused:
            self._failed(sql, spec, began, refused, verb=verb, said=said or verb)
            raise
        error = translate(problem, spec, verb)
        if verb in _WRITES and self._link is None and link is not None and cut_off(problem):
            error = CommitUnknown("The connection was lost while writing; what was written may or may not stand.")
        raise self._failed(sql, spec, began, error, verb=verb, said=said or verb)

    def _failed(
        self, sql: str, spec: EntitySpec | None, began: float, error: TallystickError, *, verb: str, said: str
    ) -> TallystickError:
        """Count and tell a statement that ended with an error, which is answered to be raised."""
        store = self._store
        if store.seeing is not None:
            store.seeing.done(sql, spec, said, began, rows=0, request=self.request, outcome=error.code)
        return store.meter.failed(spec, verb, began, error)

    async def _write(self, inside: str, alone: str, args: list[Any], spec: EntitySpec, verb: str) -> Any:
        """One writing statement: ``inside`` a transaction, or ``alone`` with the actor as its last bind."""
        if self._link is not None:
            return await self._run(inside, args, spec, verb, one=True)
        if not self._lone:
            return (await self._alone(inside, args, spec, verb) or (None,))[0]
        args.append(self.actor)
        return await self._run(alone, args, spec, verb, one=True)

    async def _alone(
        self, sql: str, args: Sequence[Any], spec: EntitySpec | None, verb: str, said: str = ""
    ) -> list[Any]:
        """A statement as a transaction of its own, because nothing else sets tenant and actor for it.

        It runs on a unit of its own, so that tasks sharing a session outside a transaction stay apart.
        """
        async with _Own(self) as unit:
            rows: list[Any] = await unit._run(sql, args, spec, verb, said)
            return rows

    async def _several(self, sql: str, args: Sequence[Any], spec: EntitySpec | None, verb: str) -> list[Any]:
        """A write whose actor cannot ride in the statement: in the open transaction or in one of its own."""
        return await (self._run if self._link is not None else self._alone)(sql, args, spec, verb)

    # -- reading -------------------------------------------------------------------------------------------------

    async def get(self, codec: Codec, id: UUID) -> Any:
        """The row of an id."""
        compiler = self._store.compiler(codec)
        return await self._run(compiler.get_sql, (self.tenant, id), codec.spec, "get", one=True)

    async def select(self, codec: Codec, query: Query) -> list[Any]:
        """The rows of a query."""
        sql, args = self._store.compiler(codec).select(query, self.tenant)
        rows: list[Any] = await self._run(sql, args, codec.spec, "select", query.verb)
        return rows

    async def count(self, codec: Codec, query: Query) -> int:
        """How many rows match."""
        sql, args = self._store.compiler(codec).count(query, self.tenant)
        return int((await self._run(sql, args, codec.spec, "count", one=True))[0])

    async def exists(self, codec: Codec, query: Query) -> bool:
        """Whether any row matches."""
        sql, args = self._store.compiler(codec).exists(query, self.tenant)
        return bool((await self._run(sql, args, codec.spec, "exists", one=True))[0])

    async def fetch(self, statement: Any) -> list[Mapping[str, Any]]:
        """Run the application's own SELECT with the tenant's predicate on every tenant table in it."""
        from tallystick.stores.postgres.statements import compile_statement

        sql, args = compile_statement(statement, self.tenant)
        return [dict(row) for row in await self._run(sql, args, None, "fetch")]

    async def explain(
        self, codec: Codec | None, asked: Any, *, analyze: bool
    ) -> tuple[Mapping[str, Any], Mapping[str, float]]:
        """The plan of a query or statement, and the rows of its tables, in a transaction that is rolled back."""
        from tallystick.stores.postgres.explaining import explained

        return await explained(self, codec, asked, analyze=analyze)

    async def call(self, sql: str, args: Sequence[Any], spec: EntitySpec | None = None) -> list[Any]:
        """Run one of the library's own statements for this tenant; errors speak of the entity of ``spec``."""
        rows: list[Any] = await self._run(sql, args, spec, "call")
        return rows

    async def change(self, sql: str, args: Sequence[Any], spec: EntitySpec | None = None) -> list[Any]:
        """Run one of the library's own writing statements, which the audit log then knows the actor of."""
        return await self._several(sql, args, spec, "call")

    # -- writing -------------------------------------------------------------------------------------------------

    async def insert(self, codec: Codec, params: list[Any]) -> Any:
        """Write one row; answers its stamps."""
        compiler = self._store.compiler(codec)
        return await self._write(compiler.add_sql, compiler.add_as_sql, list(params), codec.spec, "add")

    async def insert_many(self, codec: Codec, rows: Sequence[list[Any]]) -> Any:
        """Write all rows or none; answers their common stamps."""
        compiler, spec = self._store.compiler(codec), codec.spec
        done: Any = None
        if self._store.engine == "citus":
            return await self._insert_values(compiler, spec, rows)
        if len(rows) <= _CHUNK:
            done = await self._write(compiler.add_many_sql, compiler.add_many_as_sql, _arrays(rows), spec, "add")
            return (1, done[1], done[2], done[1], done[2])
        async with _Own(self) as unit:
            for start in range(0, len(rows), _CHUNK):
                done = await unit._run(
                    compiler.add_many_sql, _arrays(rows[start : start + _CHUNK]), spec, "add", one=True
                )
        return (1, done[1], done[2], done[1], done[2])

    async def _insert_values(self, compiler: Compiler, spec: EntitySpec, rows: Sequence[list[Any]]) -> Any:
        """Multi-row VALUES, which Citus routes to one shard; it refuses INSERT … SELECT under row-level security."""
        step = max(1, 30_000 // len(rows[0]))
        done: Any = None
        async with _Own(self) as unit:
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                done = await unit._run(
                    compiler.add_values(len(part)), [v for r in part for v in r], spec, "add", one=True
                )
        return done

    async def upsert(self, codec: Codec, rule: IndexSpec, params: list[Any]) -> Any:
        """Write or replace by a unique rule; answers the whole row, or None when sealed values are for another id."""
        sql = self._store.compiler(codec).upsert(rule.columns, rule.where)
        rows = await self._several(sql, params, codec.spec, "upsert")
        return rows[0] if rows else None

    async def id_by_rule(self, codec: Codec, rule: IndexSpec, params: list[Any]) -> UUID | None:
        """The id of the row that holds a unique rule's values."""
        sql, at = self._store.compiler(codec).id_by_rule(rule.columns, rule.where)
        row = await self._run(sql, [params[i] for i in at], codec.spec, "upsert", one=True)
        return None if row is None else row[0]

    async def update(self, codec: Codec, columns: Mapping[str, Any], id: UUID, version: int) -> Any:
        """Change columns if the version still stands; answers the stamps, or None."""
        compiler, names = self._store.compiler(codec), tuple(columns)
        args = [self.tenant, id, version, *columns.values()]
        if self._link is not None or self._lone:
            alone = self._link is None
            if alone:
                args.append(self.actor)
            return await self._run(compiler.update(names, actor=alone), args, codec.spec, "update", one=True)
        return (await self._alone(compiler.update(names, actor=False), args, codec.spec, "update") or (None,))[0]

    async def update_where(self, codec: Codec, query: Query, columns: Mapping[str, Any]) -> int:
        """Change columns of every matching row."""
        sql, args = self._store.compiler(codec).update_where(query, tuple(columns), self.tenant)
        rows = await self._several(sql, [*args, *columns.values()], codec.spec, "update")
        return int(rows[0][0])

    async def delete_where(self, codec: Codec, query: Query, reason: str) -> int:
        """Remove every matching row; the reason travels as a setting for whoever records the change."""
        sql, args = self._store.compiler(codec).delete_where(query, self.tenant, reason)
        rows = await self._several(sql, args, codec.spec, "delete")
        if self._link is not None:
            # What else the transaction does was not done for that reason.
            await self._run("SELECT set_config('tally.reason', $1, true)", (self.reason or "",))
        return int(rows[0][0])

    async def claim(self, codec: Codec, limit: int, lease: timedelta, token: UUID) -> list[Any]:
        """Lease free work items; each row ends with its number of attempts."""
        args = (self.tenant, token, lease.total_seconds(), self.actor, limit)
        return await self._several(self._store.compiler(codec).claim(), args, codec.spec, "claim")

    async def settle(self, codec: Codec, id: UUID, token: UUID, *, done: bool) -> bool:
        """End a lease; False when it was not this worker's any more."""
        sql = self._store.compiler(codec).settle(done=done)
        return bool(await self._several(sql, (self.tenant, id, token), codec.spec, "settle"))


class _Own:
    """The open transaction of a unit, or one of its own around a block."""

    __slots__ = ("_own", "_unit")

    def __init__(self, unit: PostgresUnit) -> None:
        self._own = unit._link is None
        self._unit = type(unit)(unit._store, unit.tenant, unit.actor, unit.reason, unit.request) if self._own else unit

    async def __aenter__(self) -> PostgresUnit:
        if self._own:
            await self._unit.begin(None, read_only=False)
        return self._unit

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._own:
            await (self._unit.commit() if kind is None else self._unit.rollback())


def _arrays(rows: Sequence[list[Any]]) -> list[Any]:
    return [list(column) for column in zip(*rows, strict=True)]
