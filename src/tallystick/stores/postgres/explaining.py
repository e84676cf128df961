"""Asking the server how it would run a statement: as the application, for the tenant, and without a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.plan import tables_in
from tallystick.stores.postgres.statements import compile_statement

if TYPE_CHECKING:
    from tallystick.codec import Codec
    from tallystick.stores.postgres.unit import PostgresUnit

# Dead or never analysed, a table has a negative count; its pages then say more.
_SIZES = (
    "SELECT t, greatest(c.reltuples, 0)::float8 FROM unnest($1::text[]) AS u (t) "
    "JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(t)"
)


async def explained(
    unit: PostgresUnit, codec: Codec | None, asked: Any, *, analyze: bool
) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """The plan as the server tells it, values and all, and how many rows its tables have."""
    if codec is None:
        (sql, args), spec = compile_statement(asked, unit.tenant), None
    else:
        (sql, args), spec = unit._store.compiler(codec).select(asked, unit.tenant), codec.spec
    options = "ANALYZE, BUFFERS, VERBOSE, FORMAT JSON" if analyze else "VERBOSE, FORMAT JSON"
    # On a link of its own unless a transaction is open, so that tasks sharing a session stay apart.
    own = (
        unit if unit._link is not None else type(unit)(unit._store, unit.tenant, unit.actor, unit.reason, unit.request)
    )
    await own.begin(None, read_only=False)
    try:
        await own._script("SET LOCAL transaction_read_only = on")
        (row,) = await own._run(f"EXPLAIN ({options}) {sql}", args, spec, "explain")
        (document,) = msgspec.json.decode(row[0])
        sizes = await own._run(_SIZES, (tables_in(document),), spec, "explain")
    finally:
        await own.rollback()
    return document, {row[0]: row[1] for row in sizes}
