"""The application's own SELECTs, with the tenant's predicate added to every tenant table in them.

Row-level security already holds such a statement; the predicate is the second, independent wall, and what lets an
index or a shard be chosen. A statement in which a tenant table cannot be found for certain is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Select, TableClause, Values, and_, bindparam
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    Alias,
    CompoundSelect,
    FromClause,
    FromGrouping,
    Join,
    Lateral,
    SelectBase,
    Subquery,
    TableSample,
    TableValuedAlias,
)

from tallystick.errors import Invalid, Unsupported
from tallystick.spec import SCHEMA
from tallystick.stores.postgres.raw import refuse_raw

_TENANT = "tally_tenant"
_WALLED = frozenset({SCHEMA, "tally_audit"})
_WALLED_INSIDE = (Subquery, Lateral, CTE, Values, TableValuedAlias, FunctionElement, SelectBase)


class _Dialect(PGDialect):
    """PostgreSQL with $1 placeholders and no casts: the server infers types, as for the library's own statements."""

    default_paramstyle = "numeric_dollar"
    supports_statement_cache = True


_dialect = _Dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def compile_statement(statement: Any, tenant: UUID) -> tuple[str, list[Any]]:
    """SQL text and values of a walled SELECT. Raises ``Unsupported`` for what cannot be walled for certain."""
    if not isinstance(statement, (Select, CompoundSelect)):
        raise Unsupported(
            "fetch() runs SELECT statements of SQLAlchemy Core.",
            remedy="Write select(Loan.table.c.status, ...); change rows through repositories.",
        )
    for element in visitors.iterate(statement):
        refuse_raw(element, _TENANT)
    found = _compiled(statement, tenant)
    if found is None:
        raise Invalid("The statement cannot be compiled.", remedy="Try str(statement) on its own first.")
    return found


def tables_of(statement: Any) -> frozenset[str]:
    """The names of the tenant tables that a statement reads, wherever they stand in it."""
    found = visitors.iterate(statement) if isinstance(statement, (Select, CompoundSelect)) else ()
    return frozenset(e.name for e in found if isinstance(e, TableClause) and e.schema in _WALLED)


def _compiled(statement: Any, tenant: UUID) -> tuple[str, list[Any]] | None:
    """Text and values, or None: the compiler's own error could quote values and must not be chained."""
    try:
        walled: Any = visitors.cloned_traverse(statement, {}, {"select": _wall_select, "join": _wall_join})
        compiled = walled.compile(dialect=_dialect)
        state = compiled.construct_expanded_state({_TENANT: tenant})
        processors = {**compiled._bind_processors, **state.processors}
        return state.statement, [_processed(processors.get(n), state.parameters[n]) for n in state.positiontup or []]
    except Unsupported:
        raise
    except Exception:  # a statement somebody else built can fail to compile in any way
        return None


def _processed(processor: Any, value: Any) -> Any:
    return value if processor is None else processor(value)


def _tenant_tables(source: FromClause) -> Iterator[Any]:
    """Every tenant table that a FROM element names directly, as the thing whose columns it is known by.

    What is inside a subquery is walled there. A kind of element that is not known here is refused, and so is a table
    without a schema: the server would look it up in ours.
    """
    if isinstance(source, Join):
        yield from _tenant_tables(source.left)
        yield from _tenant_tables(source.right)
        return
    if isinstance(source, FromGrouping):
        yield from _tenant_tables(source.element)
        return
    element: Any = source
    while isinstance(element, (Alias, TableSample)):
        element = element.element
    if isinstance(element, _WALLED_INSIDE):
        return
    if not isinstance(element, TableClause) or element.schema is None:
        raise Unsupported(
            "It cannot be told which table the statement reads.",
            remedy="Select from entities' tables (Loan.table), and give tables of your own their schema.",
        )
    if element.schema in _WALLED:
        yield source


def _predicate(source: Any) -> Any:
    if "tenant_id" not in source.c:
        raise Unsupported("A table of the statement has no tenant.", remedy="Select from entities' tables.")
    return source.c.tenant_id == bindparam(_TENANT, unique=False, type_=source.c.tenant_id.type)


def _wall_select(select: Any) -> None:
    """Add the predicate to WHERE for what a SELECT reads and no outer join may null."""
    predicates = [_predicate(table) for source in select.get_final_froms() for table in _kept(source)]
    if predicates:
        select._where_criteria += tuple(predicates)


def _kept(source: FromClause) -> Iterator[Any]:
    """Tables whose rows an outer join cannot replace by nulls; those of the other side are walled in its ON."""
    if isinstance(source, FromGrouping):
        yield from _kept(source.element)
        return
    if isinstance(source, Join):
        if source.full:
            return
        yield from _kept(source.left)
        if not source.isouter:
            yield from _kept(source.right)
        return
    yield from _tenant_tables(source)


def _wall_join(join: Any) -> None:
    """Put the predicate of an outer join's nullable side into its ON clause."""
    if join.full and list(_tenant_tables(join)):
        raise Unsupported(
            "A FULL JOIN of tenant tables cannot be walled.",
            remedy="Select each side with its own conditions and join the subqueries.",
        )
    if join.isouter:
        predicates = [_predicate(table) for table in _kept(join.right)]
        if predicates:
            join.onclause = and_(join.onclause, *predicates)
