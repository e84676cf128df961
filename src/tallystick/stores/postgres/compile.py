"""From a query's shape to SQL text: identifiers come from the declaration, every value is a bind.

Text is made once per shape and kept. The vocabulary is closed, so the set of statements an application can send is
finite whatever arrives in filters and sort keys; statements of the application's own are compiled by SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.conditions import MERGED, Compare, Condition, Lock, Missing, OneOf, Order, Query, _Group, width
from tallystick.errors import Invalid
from tallystick.spec import EntitySpec, Kind

if TYPE_CHECKING:
    from tallystick.codec import Codec

_ACTOR = "(SELECT set_config('tally.actor', ${n}, true) AS actor) AS by_actor"
_GENERATION = "(SELECT s.generation FROM tally.key_state s WHERE s.tenant_id = $1)"
_MERGE_ROWS = 1_000
_LOCKS: dict[Lock, str] = {
    "": "",
    "shared": " FOR SHARE",
    "exclusive": " FOR NO KEY UPDATE",
    "exclusive or refuse": " FOR NO KEY UPDATE NOWAIT",
    "exclusive or skip": " FOR NO KEY UPDATE SKIP LOCKED",
}
STAMPS = ("version", "created_at", "created_by", "updated_at", "updated_by")


class Compiler:
    """Compiles the queries and writes of one entity; keeps what it made."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.spec: EntitySpec = codec.spec
        self.names = ", ".join(self.spec.read_columns)
        self.columns = self.names
        if self.spec.opened:
            # What tells a reader that keys were destroyed since it read them; see privacy/keyring.py.
            self.names += ", key_generation"
            self.columns += f", {_GENERATION} AS key_generation"
        self._texts: dict[Any, str] = {}
        spec = self.spec
        self.get_sql = f"SELECT {self.columns} FROM {spec.qualified} WHERE tenant_id = $1 AND id = $2"
        inserted = codec.insert_columns
        names = ", ".join(inserted)
        numbers = ", ".join(f"${i}::{_cast(spec, c)}" for i, c in enumerate(inserted, 1))
        back = f"RETURNING {', '.join(STAMPS)}"
        self.add_sql = f"INSERT INTO {spec.qualified} ({names}) VALUES ({numbers}) {back}"
        actor = _ACTOR.format(n=len(inserted) + 1)
        self.add_as_sql = f"INSERT INTO {spec.qualified} ({names}) SELECT {numbers} FROM {actor} {back}"
        arrays = ", ".join(f"${i}::{_array(spec, c)}[]" for i, c in enumerate(inserted, 1))
        picked = ", ".join(f"u.{c}::{_cast(spec, c)}" for c in inserted)
        rows = f"INSERT INTO {spec.qualified} ({names}) SELECT {picked} FROM unnest({arrays}) AS u({names})"
        count = "SELECT count(*), now(), current_setting('tally.actor') FROM done"
        self.add_many_sql = f"WITH done AS ({rows} RETURNING 1) {count}"
        self.add_many_as_sql = f"WITH done AS ({rows}, {actor} RETURNING 1) {count}"

    def cached(self, key: Any, make: Callable[[], str]) -> str:
        """The text of a shape, made on first sight."""
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= 2_000:
                self._texts.pop(next(iter(self._texts)))
            text = self._texts[key] = make()
        return text

    # -- reading -------------------------------------------------------------------------------------------------

    def select(self, query: Query, tenant: Any) -> tuple[str, list[Any]]:
        """A SELECT and its values, the tenant first.

        A page over several values of an indexed field reads an ordered page of each and merges them: ``= ANY``
        with an order would make the planner give the ordered scan up and read every matching row.
        """
        several = self._several(query) if query.order and not query.lock else None
        if several is not None:
            at = query.where.index(several)
            start = sum(width(c) for c in query.where[:at])
            rest = msgspec.structs.replace(
                query,
                where=query.where[:at] + query.where[at + 1 :],
                values=query.values[:start] + query.values[start + 1 :],
            )
            after = None if query.after is None else tuple([v is None for v in query.after])
            values = self._values(rest, tenant)
            first = len(values) + 1
            values.extend(query.values[start])
            skip = _skip(query, values)
            if skip:
                values.append((query.limit or 0) + query.offset)
            key: Any = ("merge", query.shape, at, after, len(several.values), query.limit, skip)
            return self.cached(key, lambda: self._merge(rest, several, first, skip)), values
        values = self._values(query, tenant)
        after = query.after
        nulls = None if after is None else tuple([v is None for v in after])
        skip = _skip(query, values) if query.offset else 0
        key = ("select", query.shape, nulls, query.limit, skip, query.lock)
        text = self._texts.get(key)
        return text or self.cached(key, lambda: self._select(query, skip)), values

    def count(self, query: Query, tenant: Any) -> tuple[str, list[Any]]:
        """A count of what the conditions match."""
        values = self._values(query, tenant)
        key = ("count", query.shape)
        return self.cached(
            key, lambda: f"SELECT count(*) FROM {self.spec.qualified} WHERE {self._where(query)}"
        ), values

    def exists(self, query: Query, tenant: Any) -> tuple[str, list[Any]]:
        """Whether anything matches."""
        values = self._values(query, tenant)
        key = ("exists", query.shape)
        return self.cached(
            key, lambda: f"SELECT EXISTS (SELECT FROM {self.spec.qualified} WHERE {self._where(query)})"
        ), values

    def _values(self, query: Query, tenant: Any) -> list[Any]:
        values = [tenant, *query.values]
        if query.after is not None:
            values += [v for v in query.after if v is not None]
        return values

    def _where(self, query: Query) -> str:
        number = _Numbers(1)
        parts = ["tenant_id = $1"]
        parts += [self._condition(c, number) for c in query.where]
        if query.after is not None:
            parts.append(self._after(query.order, query.after, number))
        return " AND ".join(parts)

    def _select(self, query: Query, skip: int) -> str:
        return (
            f"SELECT {self.columns} FROM {self.spec.qualified} WHERE {self._where(query)}"
            f"{self._tail(query, skip)}{_lock(query.lock)}"
        )

    def _several(self, query: Query) -> OneOf | None:
        """The one condition over several values that an index can serve value by value, in the order asked for."""
        if query.limit is None or query.limit > _MERGE_ROWS:
            return None
        found = [c for c in query.where if isinstance(c, OneOf) and 2 <= len(c.values) <= MERGED]
        if len(found) != 1 or found[0].field.spec.kind is Kind.MONEY or found[0].field.spec.sealed:
            return None
        column = found[0].field.spec.column
        return found[0] if any(i.columns[1] == column for i in self.spec.indexes) else None

    def _merge(self, query: Query, several: OneOf, first: int, skip: int) -> str:
        rest, column = self._where(query), several.field.spec.column
        branch = self._tail(Query(order=query.order)) + f" LIMIT ${skip + 1}" if skip else self._tail(query)
        parts = [
            f"(SELECT {self.columns} FROM {self.spec.qualified} WHERE {rest} AND {column} = ${first + i}{branch})"
            for i in range(len(several.values))
        ]
        return f"SELECT {self.names} FROM ({' UNION ALL '.join(parts)}) AS merged{self._tail(query, skip)}"

    def _tail(self, query: Query, skip: int = 0) -> str:
        """ORDER BY, LIMIT, and OFFSET by the bind of that number: limits are few, offsets are anything."""
        text = ""
        if query.order:
            text += " ORDER BY " + ", ".join(
                f"{o.field.spec.column}{' DESC' if o.descending else ''}" for o in query.order
            )
        if query.limit is not None:
            text += f" LIMIT {int(query.limit)}"
        if skip:
            text += f" OFFSET ${skip}"
        return text

    def _after(self, order: Sequence[Order], after: Sequence[Any], number: _Numbers) -> str:
        names = [o.field.spec.column for o in order]
        same = len({o.descending for o in order}) == 1
        nullable = any(o.field.spec.optional for o in order)
        if same and not nullable:
            marks = ", ".join(number.next() for _ in order)
            return f"({', '.join(names)}) {'<' if order[0].descending else '>'} ({marks})"
        marks_of = [None if v is None else number.next() for v in after]
        options = []
        for at, one in enumerate(order):
            ties = [f"{names[i]} IS NULL" if marks_of[i] is None else f"{names[i]} = {marks_of[i]}" for i in range(at)]
            beyond = _beyond(names[at], marks_of[at], one)
            if beyond is not None:
                options.append("(" + " AND ".join([*ties, beyond]) + ")")
        return "(" + " OR ".join(options) + ")"

    # -- conditions ----------------------------------------------------------------------------------------------

    def _condition(self, condition: Condition, number: _Numbers) -> str:
        if isinstance(condition, _Group):
            parts = [self._condition(p, number) for p in condition.parts]
            if condition.word == "not":
                return f"(({parts[0]}) IS NOT TRUE)"
            if not parts:
                return "true" if condition.word == "and" else "false"
            return "(" + f" {condition.word.upper()} ".join(parts) + ")"
        if isinstance(condition, Missing):
            word = "NOT NULL" if condition.shape()[0] == "notnull" else "NULL"
            return f"{condition.field.spec.column} IS {word}"
        if isinstance(condition, OneOf):
            return self._one_of(condition, number)
        assert isinstance(condition, Compare)
        return self._compare(condition, number)

    def _one_of(self, condition: OneOf, number: _Numbers) -> str:
        spec = condition.field.spec
        if not condition.values:
            return "false"
        if spec.kind is Kind.MONEY:
            assets, units = number.next(), number.next()
            return (
                f"({spec.asset_column}, {spec.column}) IN (SELECT * FROM unnest({assets}::text[], {units}::bigint[]))"
            )
        if spec.sealed:
            return f"({spec.index_column} = ANY ({number.next()}) OR {spec.next_column} = ANY ({number.next()}))"
        return f"{spec.column} = ANY ({number.next()})"

    def _compare(self, condition: Compare, number: _Numbers) -> str:
        spec, op = condition.field.spec, condition.op
        if op == "contains":
            if spec.kind is Kind.TEXT:
                return f"strpos({spec.column}, {number.next()}) > 0"
            return f"{spec.column} @> {number.next()}::jsonb"
        column = spec.column
        if spec.sealed:
            # Two generations of an index key stand in two columns, and only one of them need be filled.
            same = f"({spec.index_column} = {number.next()} OR {spec.next_column} = {number.next()})"
            return same if op == "=" else f"({same} IS NOT TRUE)"
        if op == "<>":
            if spec.kind is Kind.MONEY:
                return f"(({spec.asset_column} = {number.next()} AND {column} = {number.next()}) IS NOT TRUE)"
            return f"{column} IS DISTINCT FROM {number.next()}" if spec.optional else f"{column} <> {number.next()}"
        if spec.kind is Kind.MONEY:
            return f"({spec.asset_column} = {number.next()} AND {column} {op} {number.next()})"
        return f"{column} {op} {number.next()}"

    # -- writing -------------------------------------------------------------------------------------------------

    def update(self, columns: tuple[str, ...], *, actor: bool) -> str:
        """A versioned UPDATE: $1 tenant, $2 id, $3 version, then the columns, then the actor."""
        known = self._texts.get(("update", columns, actor))
        if known is not None:
            return known

        def make() -> str:
            spec = self.spec
            sets = ", ".join(f"{c} = ${i}" for i, c in enumerate(columns, 4))
            source = f" FROM {_ACTOR.format(n=len(columns) + 4)}" if actor else ""
            t = spec.table
            back = ", ".join(f"{t}.{s}" for s in STAMPS)
            return (
                f"UPDATE {spec.qualified} SET {sets}{source} WHERE {t}.tenant_id = $1 AND {t}.id = $2 "
                f"AND {t}.version = $3 RETURNING {back}"
            )

        return self.cached(("update", columns, actor), make)

    def update_where(self, query: Query, columns: tuple[str, ...], tenant: Any) -> tuple[str, list[Any]]:
        """An UPDATE of every row the conditions match; the new values come after the conditions'."""
        values = self._values(query, tenant)

        def make() -> str:
            sets = ", ".join(f"{c} = ${i}" for i, c in enumerate(columns, len(values) + 1))
            return (
                f"WITH done AS (UPDATE {self.spec.qualified} SET {sets} WHERE {self._where(query)} RETURNING 1) "
                "SELECT count(*) FROM done"
            )

        return self.cached(("update_where", query.shape, columns), make), values

    def delete_where(self, query: Query, tenant: Any, reason: str) -> tuple[str, list[Any]]:
        """A DELETE of every row the conditions match; the reason becomes the setting ``tally.reason``."""
        values = self._values(query, tenant)
        values.append(reason)

        def make() -> str:
            said = f"(SELECT set_config('tally.reason', ${len(values)}, true) AS reason) AS said"
            return (
                f"WITH done AS (DELETE FROM {self.spec.qualified} USING {said} WHERE {self._where(query)} "
                "RETURNING 1) SELECT count(*) FROM done"
            )

        return self.cached(("delete", query.shape), make), values

    def add_values(self, count: int) -> str:
        """A multi-row INSERT of ``count`` rows, for engines that route VALUES and refuse INSERT … SELECT."""

        def make() -> str:
            names, width = self.codec.insert_columns, len(self.codec.insert_columns)
            casts = [_cast(self.spec, c) for c in names]
            rows = ", ".join(
                "(" + ", ".join(f"${r * width + i + 1}::{cast}" for i, cast in enumerate(casts)) + ")"
                for r in range(count)
            )
            return f"INSERT INTO {self.spec.qualified} ({', '.join(names)}) VALUES {rows} RETURNING {', '.join(STAMPS)}"

        return self.cached(("values", count), make)

    def upsert(self, target: tuple[str, ...], where: str | None) -> str:
        """INSERT … ON CONFLICT on a declared unique rule; every column the application may change is replaced."""

        def make() -> str:
            spec = self.spec
            columns = self.codec.insert_columns
            names = ", ".join(columns)
            numbers = ", ".join(f"${i}::{_cast(spec, c)}" for i, c in enumerate(columns, 1))
            changed = [c.name for c in spec.columns if c.updatable and c.name in columns and c.name not in target]
            sets = ", ".join(f"{c} = excluded.{c}" for c in changed) or f"{target[-1]} = excluded.{target[-1]}"
            narrowed = f" WHERE {where}" if where else ""
            # What was sealed for another row or person is not written here; the caller seals anew.
            whose = [] if spec.subject is None else [spec.fields[spec.subject].column]
            same = " AND ".join(f"{spec.table}.{c} IS NOT DISTINCT FROM excluded.{c}" for c in ("id", *whose))
            same = f" WHERE {same}" if spec.sealed else ""
            return (
                f"INSERT INTO {spec.qualified} ({names}) VALUES ({numbers}) ON CONFLICT ({', '.join(target)})"
                f"{narrowed} DO UPDATE SET {sets}{same} RETURNING {self.columns}"
            )

        return self.cached(("upsert", target), make)

    def id_by_rule(self, target: tuple[str, ...], where: str | None) -> tuple[str, list[int]]:
        """Find the row that holds a unique rule's values; answers the text and where those values stand."""
        at = [self.codec.insert_columns.index(c) for c in target]
        tests = " AND ".join(f"{c} = ${i}" for i, c in enumerate(target, 1))
        narrowed = f" AND ({where})" if where else ""
        return f"SELECT id FROM {self.spec.qualified} WHERE {tests}{narrowed}", at

    def claim(self) -> str:
        """Lease the oldest free work items: $1 tenant, $2 token, $3 seconds, $4 worker, $5 how many."""

        def make() -> str:
            spec = self.spec
            order = spec.fields[spec.queue or "created_at"].column
            t = spec.table
            columns = ", ".join(f"{t}.{c}" for c in spec.read_columns) + (f", {_GENERATION}" if spec.opened else "")
            free = (
                f"SELECT tenant_id, id FROM {spec.qualified} WHERE tenant_id = $1 AND done_at IS NULL "
                f"AND (lease_until IS NULL OR lease_until < now()) ORDER BY {order}, id LIMIT $5 "
                "FOR NO KEY UPDATE SKIP LOCKED"
            )
            return (
                f"WITH free AS MATERIALIZED ({free}) UPDATE {spec.qualified} SET lease_token = $2, "
                f"lease_until = now() + make_interval(secs => $3), lease_by = $4, attempts = {t}.attempts + 1 "
                # No join: on a table without statistics the planner would compare every row with every row.
                f"WHERE {t}.tenant_id = $1 AND {t}.id = ANY (ARRAY(SELECT free.id FROM free)) "
                f"RETURNING {columns}, {t}.attempts"
            )

        return self.cached("claim", make)

    def settle(self, *, done: bool) -> str:
        """End a lease, keeping the item done or giving it back: $1 tenant, $2 id, $3 token."""
        sets = (
            "done_at = now(), lease_token = NULL, lease_until = NULL"
            if done
            else ("lease_token = NULL, lease_until = NULL, lease_by = NULL")
        )
        return self.cached(
            ("settle", done),
            lambda: (
                f"UPDATE {self.spec.qualified} SET {sets} WHERE tenant_id = $1 AND id = $2 AND lease_token = $3 "
                "AND done_at IS NULL RETURNING id"
            ),
        )


class _Numbers:
    __slots__ = ("_at",)

    def __init__(self, start: int) -> None:
        self._at = start

    def next(self) -> str:
        self._at += 1
        return f"${self._at}"


def _lock(word: Lock) -> str:
    found = _LOCKS.get(word)
    if found is None:
        raise Invalid("There is no such lock.", field="lock", remedy=f"Locks are: {', '.join(filter(None, _LOCKS))}.")
    return found


def _skip(query: Query, values: list[Any]) -> int:
    """Bind the offset after the values; answers its number, or 0 when nothing is skipped."""
    if not query.offset:
        return 0
    values.append(query.offset)
    return len(values)


def _beyond(name: str, mark: str | None, order: Order) -> str | None:
    """Strictly after a value in one sort key, nulls last ascending and first descending."""
    optional = order.field.spec.optional
    if order.descending:
        if mark is None:
            return f"{name} IS NOT NULL"
        return f"{name} < {mark}"
    if mark is None:
        return None
    return f"({name} > {mark} OR {name} IS NULL)" if optional else f"{name} > {mark}"


def _cast(spec: EntitySpec, column: str) -> str:
    return spec.column(column).sql.removesuffix(' COLLATE "C"')


def _array(spec: EntitySpec, column: str) -> str:
    sql = _cast(spec, column)
    return "text" if sql == "jsonb" else sql
