"""Every argument of a call replaced by things that it is not: each is an error of the tree, or accepted."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tallystick import Session, TallystickError

WRONG: tuple[Any, ...] = (
    None,
    -1,
    1.5,
    2**300,
    True,
    "",
    "x\0",
    b"x",
    object(),
    [None],
    {"x": 1},
    (1, 2),
    Decimal("NaN"),
    UUID(int=7),
    datetime(2020, 1, 1),
    datetime(2020, 1, 1, tzinfo=UTC),
    date(2020, 1, 1),
    timedelta(1),
)


class _Back(TallystickError):
    """Takes back what was accepted."""


async def untyped(db: Session, name: str, call: Callable[..., Any], good: dict[str, Any]) -> list[str]:
    """What is raised that is no error of the tree. Nothing of what is accepted stays."""
    found = []
    for argument in good:
        for wrong in WRONG:
            try:
                async with db.transaction():
                    made = call(**good | {argument: wrong})
                    if hasattr(made, "__aiter__"):
                        async for _ in made:
                            break
                    else:
                        await made
                    raise _Back("back")
            except TallystickError:
                continue
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                found.append(f"{name}({argument}={wrong!r:.30}): {error!r:.80} in {at.filename}:{at.lineno}")
    return found


async def all_untyped(db: Session, calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]]) -> list[str]:
    return [problem for name, (call, good) in calls.items() for problem in await untyped(db, name, call, good)]
