"""The middleware: ends the request's session, and answers errors of the tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from tallystick.errors import TallystickError
from tallystick.web.django.requests import problem_response, release
from tallystick.web.django.site import get_tally


class TallystickMiddleware:
    """Gives requests ``request.tally``, ends what ``get_db(request)`` opened, and turns errors into problem documents.

    Works under WSGI and ASGI: a view that is a plain function runs in a thread either way.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        request.tally = SimpleLazyObject(get_tally)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        if self._async:
            return self._awaited(request)
        try:
            return self.get_response(request)
        finally:
            release(request)

    async def _awaited(self, request: HttpRequest) -> Any:
        try:
            return await self.get_response(request)
        finally:
            # The session is a thread's, and the event loop must not wait for it.
            await sync_to_async(release)(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """What a view raised, when it is one of ours."""
        return problem_response(error, request) if isinstance(error, TallystickError) else None
