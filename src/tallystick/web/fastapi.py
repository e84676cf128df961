"""FastAPI: sessions for handlers, entities in and out, filters in query strings, errors as problem documents.

    install(app, tally, tenant=tenant_of, actor=actor_of)

    @app.get("/loans")
    async def loans(db: Db, where: Loan.Filter = Query(), page: PageQuery = Depends()) -> Page[Loan]:
        return await db.loans.page(where, after=page.after, limit=page.limit)

``TallystickRoute`` is what makes that read so: FastAPI's own extension point, a route class. ``install`` sets it for
the application; a router is made with ``APIRouter(route_class=TallystickRoute)``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Header
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from tallystick.app import Tallystick
from tallystick.errors import TallystickError
from tallystick.session import Session
from tallystick.web import schemas
from tallystick.web.fastapi_errors import TooLarge, failed, refused_otherwise, unread
from tallystick.web.fastapi_routes import TallystickRoute, refuse_query
from tallystick.web.problems import Problem
from tallystick.web.requests import (
    REQUEST_ID,
    Access,
    ActorOf,
    PermissionsOf,
    Precondition,
    TenantOf,
    opened,
    refuse_another,
)

__all__ = ["Db", "IfMatch", "TallystickRoute", "install", "session_of"]

MAX_BODY = 1 << 20
"""Bytes of a request's body, where the application sets no limit of its own."""


def install(
    app: FastAPI,
    tally: Tallystick,
    *,
    tenant: TenantOf,
    actor: ActorOf,
    permissions: PermissionsOf | None = None,
    request_id: str = REQUEST_ID,
) -> None:
    """Connect an application with its database; call it before any route is declared.

    ``tenant``, ``actor`` and ``permissions`` are called with each request and may be coroutine functions: see
    ``Access``. ``tally`` is opened and closed with the application unless somebody has opened it already. Errors
    become problem documents, FastAPI's own answer to unreadable requests too, because that repeats what was sent.
    Raises ``Declaration`` for an application that has a ``tally`` already.
    """
    refuse_another(getattr(app.state, "tallystick", None))
    app.state.tallystick = Access(tally, tenant, actor, permissions, request_id)
    inherited = app.router.route_class
    app.router.route_class = (
        TallystickRoute if inherited is APIRoute else type("TallystickRoute", (TallystickRoute, inherited), {})
    )
    if app.max_body_size is None:
        app.max_body_size = MAX_BODY
    app.add_exception_handler(TallystickError, cast("Any", failed))
    app.add_exception_handler(RequestValidationError, unread)
    if app.exception_handlers.get(HTTPException) is http_exception_handler:
        app.add_exception_handler(HTTPException, refused_otherwise)
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: TooLarge(stack())  # type: ignore[method-assign]
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        _refuse_misread(app)
        ours = await opened(tally)
        try:
            async with inner(running) as state:
                yield state
        finally:
            if ours:
                await tally.close()

    app.router.lifespan_context = lifespan
    described = app.openapi

    def openapi() -> dict[str, Any]:
        _refuse_misread(app)
        document = described()
        known = document.setdefault("components", {}).setdefault("schemas", {})
        known.update(schemas.components(Problem)[1])
        return document

    app.openapi = openapi  # type: ignore[method-assign]


@asynccontextmanager
async def session_of(request: HTTPConnection) -> AsyncIterator[Session]:
    """A session for a request, for code that is no handler: middleware, background tasks that outlive theirs."""
    access: Access = request.app.state.tallystick
    async with await access.session(request) as db:
        yield db


async def _session(request: HTTPConnection) -> AsyncIterator[Session]:
    # Alive until the response is sent, so that handlers can stream; outside `transaction()` it holds no connection.
    async with session_of(request) as db:
        yield db


async def _precondition(if_match: Annotated[str | None, Header()] = None) -> Precondition:
    return Precondition(if_match)


Db = Annotated[Session, Depends(_session)]
"""The session of the request: one tenant, one actor, closed when the response was sent."""
IfMatch = Annotated[Precondition, Depends(_precondition)]
"""The request's ``If-Match``: ``match.check(entity)`` raises ``StaleVersion``, which is answered as 412."""


def _refuse_misread(app: FastAPI) -> None:
    """Look at every route, because one of a router without our route class is never ours to adapt."""
    for one in iter_route_contexts(app.routes):
        dependant = getattr(one, "dependant", None)
        if dependant is not None:
            refuse_query(dependant)
