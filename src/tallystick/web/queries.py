"""Query strings: filters and paging, read strictly. A name that an operation does not take is an error."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from tallystick.errors import Declaration, Invalid
from tallystick.filters import Filter
from tallystick.page import PageQuery

_NAME = re.compile(r"[a-z][a-z0-9_]{0,58}")


def names_of(kind: Any) -> tuple[str, ...]:
    """The parameters that a filter or ``PageQuery`` takes."""
    return tuple(f.name for f in msgspec.structs.fields(kind))


def names_together(kinds: Iterable[Any]) -> frozenset[str]:
    """The parameters that the filters and ``PageQuery`` of one handler take.

    Raises ``Declaration`` where two of them take the same: both would read it.
    """
    every = [name for kind in kinds for name in names_of(kind)]
    twice = sorted(name for name in set(every) if every.count(name) > 1)
    if twice:
        raise Declaration(
            f"{twice[0]} of the query string would be read twice, by two parameters of one handler.",
            remedy="Take one of the two from the body: where: X.Filter = Body(), data: JSONBody[X.Filter] in Litestar.",
        )
    return frozenset(every)


def read(kind: Any, pairs: Iterable[tuple[str, str]], known: Collection[str]) -> Any:
    """A filter or ``PageQuery`` of a query string's pairs; ``known`` are the names that other parts of it take.

    Raises ``Invalid``, naming the parameter and never its value.
    """
    own = names_of(kind)
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in own:
            values.setdefault(name, []).append(value)
        elif name not in known:
            usable = name if _NAME.fullmatch(name) else ""
            raise Invalid(
                "The query string has a parameter that this operation does not take.",
                field=usable,
                remedy=f"It takes: {', '.join(sorted({*own, *known}))}.",
            )
    for name, found in values.items():
        if not (issubclass(kind, Filter) and kind._tally_plan[name][1] == "in"):
            if len(found) > 1:
                raise Invalid(f"The parameter {name} is given twice.", field=name, remedy="Give it once.")
            values[name] = found[0]
    if issubclass(kind, Filter):
        return checked(kind.parse(values))
    return _paging(values)


def checked(where: Filter) -> Filter:
    """The filter, after its amounts were read: what is wrong with one is told with the parameter's name."""
    where.conditions()
    return where


def _paging(values: dict[str, Any]) -> PageQuery:
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, PageQuery, strict=False)
            continue
        except msgspec.ValidationError:
            pass
        raise Invalid(
            f"The parameter {name} has a value of the wrong kind.",
            field=name,
            remedy="It should be a number from 1 to 1000." if name == "limit" else "Pass on the `next` of a page.",
        )
    return msgspec.convert(values, PageQuery, strict=False)
