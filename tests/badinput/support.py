"""What every refusal has in common: a typed error, a remedy, and a database that is as it was."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.entities import ALL, Sink

from tallystick import Session, Tallystick
from tallystick.errors import Invalid, TallystickError


def valid(**given: Any) -> Sink:
    """A sink that can be stored, but for what is given."""
    return Sink(**({"label": "valid"} | given))


@contextlib.contextmanager
def refused(*kinds: type[TallystickError]) -> Iterator[pytest.ExceptionInfo[TallystickError]]:
    """The block raises one of these (``Invalid`` unless told), with a code and a remedy."""
    with pytest.raises(kinds or (Invalid,)) as caught:
        yield caught
    problem = caught.value
    assert problem.code.startswith("TS-")
    assert problem.problem
    assert problem.remedy, f"no remedy: {problem}"
    assert problem.remedy in str(problem)
    assert problem.__cause__ is None


@contextlib.asynccontextmanager
async def unchanged(tally: Tallystick, tenant: str) -> AsyncIterator[Session]:
    """A session in which nothing comes to be: rows and versions are compared before and after, by another session."""
    async with tally.session(tenant, actor="before", permissions=["*"]) as db:
        before = await _fingerprint(db)
    async with tally.session(tenant, actor="test", permissions=["*"]) as db:
        yield db
        assert db.unit.depth == 0
    async with tally.session(tenant, actor="after", permissions=["*"]) as db:
        assert await _fingerprint(db) == before


async def _fingerprint(db: Session) -> dict[str, list[tuple[Any, ...]]]:
    return {
        entity.__name__: sorted((row.id, row.version, row.updated_by) for row in await db[entity].find())
        for entity in ALL
    }
