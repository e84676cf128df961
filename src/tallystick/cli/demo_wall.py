"""Five ways over the tenant wall, tried for real; each attempt says what stopped it, or that nothing did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.errors import TallystickError

if TYPE_CHECKING:
    import asyncpg

    from tallystick.app import Tallystick
    from tallystick.domains.underwriting.applications import Application
    from tallystick.session import Session


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: which of the five ways, what was tried, what came back, and whether it was stopped."""

    way: int
    tried: str
    answer: str
    code: str = ""
    stopped: bool


class _Attempts:
    """Runs attempts and judges each by what it should have met."""

    def __init__(self) -> None:
        self.found: list[Crossing] = []

    async def refused(self, way: int, tried: str, work: Callable[[], Awaitable[Any]], *kinds: type[Exception]) -> None:
        """It should raise one of ``kinds``."""
        try:
            value = await work()
        except kinds as stop:
            answer, code = _name(stop)
            self.found.append(Crossing(way=way, tried=tried, answer=answer, code=code, stopped=True))
        except Exception as other:
            self._unexpected(way, tried, other)
        else:
            self.found.append(Crossing(way=way, tried=tried, answer=f"worked: {type(value).__name__}", stopped=False))

    async def empty(self, way: int, tried: str, work: Callable[[], Awaitable[int]]) -> None:
        """It should find nothing."""
        try:
            rows = await work()
        except Exception as other:
            self._unexpected(way, tried, other)
            return
        self.found.append(Crossing(way=way, tried=tried, answer=f"{rows} rows", stopped=rows == 0))

    def _unexpected(self, way: int, tried: str, problem: Exception) -> None:
        # Stopped, but not by the wall: that proves nothing about the wall.
        answer, code = _name(problem)
        self.found.append(Crossing(way=way, tried=tried, answer=f"unexpected {answer}", code=code, stopped=False))


async def cross(tally: Tallystick, own: str, other: str) -> list[Crossing]:
    """Try, as tenant ``other``, to reach an application of tenant ``own``."""
    from tallystick.domains.underwriting.applications import Application
    from tallystick.query import desc

    attempts = _Attempts()
    async with (
        tally.session(own, actor="demo", permissions=()) as victim,
        tally.session(other, actor="demo", permissions=["*"]) as thief,
    ):
        page = await victim.applications.page(order=desc(Application.created_at), limit=1)
        target = page.items[0]
        await _by_session(attempts, thief, target, page.next)
        await _by_sql(attempts, tally, thief, victim, target)
        after = await victim.applications.get(target.id)
        if (after.version, after.status) != (target.version, target.status):
            attempts.found.append(
                Crossing(way=2, tried="afterwards it is what it was", answer="it was changed", stopped=False)
            )
    return attempts.found


async def _by_session(attempts: _Attempts, thief: Session, target: Application, cursor: str | None) -> None:
    from tallystick.domains.underwriting.applications import Application
    from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
    from tallystick.entity import with_fields
    from tallystick.errors import Invalid, NotFound, UnknownReference, WrongTenant
    from tallystick.fields import Ref
    from tallystick.query import desc

    forged = with_fields(target, tenant_id=thief.tenant_id)

    async def found() -> int:
        return len(await thief.applications.find(Application.id == target.id))

    await attempts.refused(1, "read the other's row by its id", lambda: thief.applications.get(target.id), NotFound)
    await attempts.empty(1, "search for that id", found)
    await attempts.refused(
        2,
        "change it through the entity",
        lambda: thief.applications.update(target, purpose="stolen"),
        WrongTenant,
    )
    await attempts.refused(
        2,
        "the same, its tenant forged",
        lambda: thief.applications.update(forged, purpose="stolen"),
        NotFound,
    )
    decision = Decision(application=Ref(target.id), kind=DecisionKind.POLICY, outcome=Outcome.REVIEW, is_final=False)
    await attempts.refused(
        3, "a decision of one's own about it", lambda: thief.decisions.add(decision), UnknownReference
    )
    await attempts.refused(
        4,
        "page on with the other's cursor",
        lambda: thief.applications.page(order=desc(Application.created_at), after=cursor or "", limit=1),
        Invalid,
    )


async def _by_sql(attempts: _Attempts, tally: Tallystick, thief: Session, victim: Session, target: Application) -> None:
    """Raw statements as the application's own database role, past every line of Python."""
    import asyncpg

    from tallystick.settings import connect_args

    server = tally.server
    assert server is not None
    connection = await asyncpg.connect(**connect_args(server.url("app")))
    count = "SELECT count(*) FROM tally.application"
    try:
        await attempts.refused(
            5, "SELECT without a tenant", lambda: connection.fetchval(count), asyncpg.UndefinedObjectError
        )
        await connection.execute(
            "SELECT set_config('tally.tenant', $1, false), set_config('tally.actor', 'demo', false)",
            str(thief.tenant_id),
        )
        if not await connection.fetchval(count):
            raise AssertionError("the thief's own rows must be there, or an empty answer proves nothing")
        await attempts.empty(
            5,
            "SELECT the other's rows",
            lambda: connection.fetchval(f"{count} WHERE tenant_id = $1", victim.tenant_id),
        )
        await attempts.refused(
            5,
            "INSERT a row for the other",
            lambda: _insert(connection, victim.tenant_id),
            asyncpg.InsufficientPrivilegeError,
        )
    finally:
        await connection.close()
    await _by_actor(attempts, tally, thief, victim, target)


async def _insert(connection: asyncpg.Connection, tenant: Any) -> str:
    from tallystick.ids import uuid7

    return str(
        await connection.execute(
            "INSERT INTO tally.disclosure (tenant_id, id, entity, row_id, field, reason) "
            "VALUES ($1, $2, $3, $2, $3, $3)",
            tenant,
            uuid7(),
            "forged",
        )
    )


async def _by_actor(
    attempts: _Attempts, tally: Tallystick, thief: Session, victim: Session, target: Application
) -> None:
    """An actor's name that carries SQL, in a transaction, where the name travels with the tenant."""
    from tallystick.domains.underwriting.applications import Application

    hostile = f"x', true), set_config('tally.tenant', '{victim.tenant_id}', true) --"

    async def reach() -> int:
        async with tally.session(thief.tenant_id, actor=hostile, permissions=()) as db, db.transaction():
            return await db.applications.count(Application.id == target.id)

    await attempts.empty(5, "an actor whose name is SQL", reach)


def _name(problem: Exception) -> tuple[str, str]:
    """What an error is called, and its code: ours by kind, the server's by SQLSTATE."""
    if isinstance(problem, TallystickError):
        return type(problem).__name__, problem.code
    state = getattr(problem, "sqlstate", None)
    return ("server refused", f"SQLSTATE {state}") if state else (type(problem).__name__, "")
