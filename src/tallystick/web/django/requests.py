"""The session of a request, and an error as its response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse

from tallystick.errors import TallystickError
from tallystick.sync import Session
from tallystick.web.django.site import async_tally, function, get_tally, setting
from tallystick.web.problems import MEDIA_TYPE, encode, problem_of
from tallystick.web.requests import Access, refuse_nobody

if TYPE_CHECKING:
    from tallystick import session as asynchronous

_HELD = "_tallystick"


def get_db(request: HttpRequest) -> Session:
    """The request's session: the same one each time, of the tenant and actor that the site's functions name.

    It ends with the response, so a streaming response reads before it starts. Raises what opening a session raises:
    ``NotFound`` for an unknown tenant, ``Denied`` for an inactive one, ``LoginRefused`` where the site's functions
    answer nothing.
    """
    held = request.__dict__.get(_HELD)
    if held is None:
        context = get_tally().session(**_who(request))
        held = request.__dict__[_HELD] = (context, context.__enter__())
    db: Session = held[1]
    return db


@asynccontextmanager
async def async_db(request: HttpRequest) -> AsyncIterator[asynchronous.Session]:
    """A session of the request for a view that is ``async def``: ``async with async_db(request) as db``."""
    # The site's functions may ask Django's own tables, which it refuses in an event loop.
    who = await sync_to_async(_who)(request)
    tally = await async_tally()
    async with tally.session(**who) as db:
        yield db


def release(request: HttpRequest) -> None:
    """End the request's session, if it had one; a transaction that is open is rolled back."""
    held = request.__dict__.pop(_HELD, None)
    if held is not None:
        held[0].__exit__(None, None, None)


def problem_response(error: TallystickError, request: HttpRequest | None = None) -> HttpResponse:
    """The error as ``application/problem+json``: its code, what to do, and never a value of anybody."""
    conditional = request is not None and "If-Match" in request.headers
    problem, headers = problem_of(error, conditional=conditional)
    return HttpResponse(encode(problem), status=problem.status, content_type=MEDIA_TYPE, headers=headers)


def _who(request: HttpRequest) -> dict[str, Any]:
    tenant, actor = function("TENANT")(request), function("ACTOR")(request)
    refuse_nobody(tenant, actor)
    may = None if setting("PERMISSIONS") is None else function("PERMISSIONS")(request)
    return {
        "tenant": tenant,
        "actor": actor,
        "permissions": may,
        "request_id": _IDS.id_of(request),
    }


# Here for its rule of request ids alone: who asks is known by Django's settings.
_IDS: Any = Access(tally=None, tenant=None, actor=None)  # type: ignore[arg-type]
