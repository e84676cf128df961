"""From a request to a session: whose data, who acts, for which request; and versions as HTTP has them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.entity import Entity
from tallystick.errors import Declaration, Invalid, LoginRefused, StaleVersion, Unavailable
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.domains.identity.tenants import TenantInfo
    from tallystick.session import SessionContext

TenantOf = Callable[[Any], "str | UUID | TenantInfo | Awaitable[str | UUID | TenantInfo]"]
ActorOf = Callable[[Any], "str | Awaitable[str]"]
PermissionsOf = Callable[[Any], "Iterable[str] | Awaitable[Iterable[str] | None] | None"]
REQUEST_ID = "X-Request-ID"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_VERSION = re.compile(r'(?:W/)?"(\d{1,18})"')


@dataclass(frozen=True, slots=True)
class Access:
    """How sessions come out of requests: the application's own functions say whose data it is and who acts.

    They answer from what was proved (a token's claims, a server-side login), never from a header that any client can
    write. One may be a coroutine function, and may raise what it likes: ``LoginRefused`` is answered as 401, and so is
    a request for which ``tenant`` or ``actor`` answers nothing.
    ``permissions`` may be left out; then they are those of the account that the actor "user:<id>" names.
    """

    tally: Tallystick
    tenant: TenantOf
    actor: ActorOf
    permissions: PermissionsOf | None = None
    request_id: str = REQUEST_ID

    async def session(self, request: Any) -> SessionContext:
        """The session of one request, to be entered."""
        tenant = await _answer(self.tenant, request)
        actor = await _answer(self.actor, request)
        refuse_nobody(tenant, actor)
        may = None if self.permissions is None else await _answer(self.permissions, request)
        return self.tally.session(tenant, actor=actor, permissions=may, request_id=self.id_of(request))

    def id_of(self, request: Any) -> str:
        """The id that the client or a proxy gave the request where it is usable, and a new one where not."""
        given = request.headers.get(self.request_id, "")
        return given if _REQUEST_ID.fullmatch(given) else str(uuid7())


def refuse_nobody(tenant: Any, actor: Any) -> None:
    """Raise ``LoginRefused`` where the application's functions answered nothing."""
    if not tenant or not actor:
        raise LoginRefused("The request proves nothing about who sends it.")


async def _answer(asked: Callable[[Any], Any], request: Any) -> Any:
    found = asked(request)
    return await found if inspect.isawaitable(found) else found


def refuse_another(access: Access | None) -> None:
    """Raise ``Declaration`` where an application has a ``tally``: its handlers would silently get the later one."""
    if access is not None:
        raise Declaration(
            "This application has a Tallystick already.",
            remedy="Make an application for each and mount one in the other; what is mounted you open yourself.",
        )


async def opened(tally: Tallystick) -> bool:
    """Open an application that is not open yet; answers whether it was this call that did."""
    try:
        _ = tally.store
    except Unavailable:
        await tally.start()
        return True
    return False


def etag(entity: Entity) -> str:
    """The entity tag of an entity: its version, quoted."""
    return f'"{entity.version}"'


class Precondition:
    """The ``If-Match`` of a request; ``check(entity)`` raises ``StaleVersion`` for another version."""

    __slots__ = ("given",)

    def __init__(self, given: str | None) -> None:
        self.given = given

    def check(self, entity: Entity, *, required: bool = False) -> None:
        """Compare with the entity in hand. Without the header nothing is asked, unless it is ``required``."""
        if self.given is None or self.given.strip() == "*":
            if required and self.given is None:
                raise Invalid("The request needs an If-Match.", field="if_match", remedy="Send the ETag that you got.")
            return
        versions = {int(m[1]) for part in self.given.split(",") if (m := _VERSION.fullmatch(part.strip()))}
        if entity.version not in versions:
            raise StaleVersion(
                f"The {type(entity).__name__} is not at the version that the client has.", entity=type(entity).__name__
            )


def next_link(url: str, page: Any) -> str | None:
    """The ``Link`` header (RFC 8288) that leads to the following page; None on the last one."""
    from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

    if page.next is None:
        return None
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k != "after"]
    return f'<{urlunsplit(parts._replace(query=urlencode([*query, ("after", page.next)])))}>; rel="next"'
