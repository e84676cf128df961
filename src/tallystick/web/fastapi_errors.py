"""Errors as FastAPI answers them: those of the library, FastAPI's own, and what comes before any handler."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.utils import is_body_allowed_for_status_code
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from tallystick.errors import TallystickError
from tallystick.web.problems import MEDIA_TYPE, Mistake, encode, place, problem_of, refused, unreadable

_LIMIT_SAYS = b"Content Too Large"


class TooLarge:
    """Makes a problem document of the text by which the limit of bodies refuses one that says it is too long.

    A 413 that the application writes itself goes out as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: Message | None = None

        async def told(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and message["status"] == 413:
                held = message
                return
            if held is not None:
                start, held = held, None
                if message.get("body") == _LIMIT_SAYS:
                    message = {**message, "body": encode(refused(413))}
                    headers = MutableHeaders(raw=[*start["headers"]])
                    headers["content-type"], headers["content-length"] = MEDIA_TYPE, str(len(message["body"]))
                    start = {**start, "headers": headers.raw}
                await send(start)
            await send(message)

        await self.app(scope, receive, told)


async def failed(request: HTTPConnection, error: Exception) -> Response | None:
    """The answer to an error of the library."""
    if not isinstance(error, TallystickError):
        raise error
    problem, headers = problem_of(error, conditional="if-match" in request.headers)
    if isinstance(request, WebSocket) and request.application_state is not WebSocketState.CONNECTING:
        # It was accepted, and there is no answer any more but to end it.
        await request.close(1011 if problem.status >= 500 else 1008, problem.code)
        return None
    return Response(encode(problem), problem.status, headers, MEDIA_TYPE)


async def refused_otherwise(request: Request, error: Exception) -> Response:
    """The answer to FastAPI's own exception, whoever raised it."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if not is_body_allowed_for_status_code(error.status_code):
        return Response(None, error.status_code, headers)
    return Response(encode(refused(error.status_code, error.detail)), error.status_code, headers, MEDIA_TYPE)


async def unread(request: Request, error: Exception) -> Response:
    """The answer to a request that FastAPI could not read, without what it read."""
    if not isinstance(error, RequestValidationError):
        raise error
    mistakes = []
    for one in error.errors():
        about = one.get("ctx", {}) if one["type"] == "tallystick" else {}
        where = [p for p in one["loc"] if one["type"] != "extra_forbidden" or p != one["loc"][-1]]
        said = about.get("problem") or ("It is missing." if one["type"] == "missing" else "It has a wrong value.")
        mistakes.append(Mistake(place([*where, about.get("field") or None]), said))
    return Response(encode(unreadable(mistakes)), 422, None, MEDIA_TYPE)
