"""Litestar: sessions for handlers, filters in query strings, errors as problem documents.

    app = Litestar([loans], plugins=[TallystickPlugin(tally, tenant=tenant_of, actor=actor_of)])

    @get("/loans", dependencies={"where": filtered(Loan.Filter)})
    async def loans(db: Db, where: NamedDependency[Loan.Filter], page: Paging) -> Page[Loan]:
        return await db.loans.page(where, after=page.after, limit=page.limit)

Litestar is built on msgspec as entities are: bodies and answers need nothing. The plugin provides ``db`` (the session),
``page`` (the paging part of a query string) and ``match`` (its ``If-Match``), and opens and closes the application.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, get_args

import msgspec
from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import HeaderParameter, QueryParameter
from litestar.plugins import InitPlugin, OpenAPISchemaPlugin
from litestar.plugins.base import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.typing import FieldDefinition

from tallystick.app import Tallystick
from tallystick.entity import Entity
from tallystick.errors import TallystickError
from tallystick.filters import Filter
from tallystick.inputs import Input, RefTo
from tallystick.page import MAX_LIMIT, PageQuery
from tallystick.privacy.sealed import Secret, secret_dec_hook
from tallystick.session import Session
from tallystick.web import queries
from tallystick.web.problems import (
    MEDIA_TYPE,
    NOT_NOW,
    REFUSED,
    Mistake,
    Problem,
    encode,
    place,
    problem_of,
    refused,
    unreadable,
)
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
from tallystick.web.schemas import components, refuse_entities

__all__ = ["Db", "IfMatch", "Paging", "TallystickPlugin", "filtered", "session_of"]

Db = NamedDependency[Session]
"""The session of the request, for a parameter called ``db``."""
Paging = NamedDependency[PageQuery]
"""The paging part of the query string, for a parameter called ``page``."""
IfMatch = NamedDependency[Precondition]
"""The request's ``If-Match``, for a parameter called ``match``."""


def _described(text: str) -> ResponseSpec:
    return ResponseSpec(Problem, media_type=MEDIA_TYPE, generate_examples=False, description=text)


_PROBLEMS: dict[Any, ResponseSpec] = {
    "4XX": _described(REFUSED),
    # Litestar describes this one by itself, as something else.
    "400": _described(REFUSED),
    "503": _described(NOT_NOW),
}
_Request = Request[Any, Any, Any]
_TAKEN = (Input, RefTo, Filter)
_KEYWORDS = {f.metadata.get("alias", f.name): f.name for f in dataclasses.fields(Schema)}


class TallystickPlugin(InitPlugin, ReceiveRoutePlugin, OpenAPISchemaPlugin):
    """Connects an application with its database.

    ``tenant``, ``actor`` and ``permissions`` are called with each request and may be coroutine functions: see
    ``Access``. ``tally`` is opened and closed with the application unless somebody has opened it already. Litestar's
    own refusals become problem documents too, because they repeat what was sent; the application's own handler wins.
    An application has one: another is a ``Declaration``.
    """

    def __init__(
        self,
        tally: Tallystick,
        *,
        tenant: TenantOf,
        actor: ActorOf,
        permissions: PermissionsOf | None = None,
        request_id: str = REQUEST_ID,
    ) -> None:
        self.access = Access(tally, tenant, actor, permissions, request_id)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what handlers can ask for, the encoding of secrets, the answers to errors, and the life of ``tally``."""
        refuse_another(app_config.state.get("tallystick"))
        app_config.state["tallystick"] = self.access
        app_config.lifespan.append(self._life)
        app_config.dependencies = {
            "db": Provide(_session),
            "page": filtered(PageQuery),
            "match": Provide(_precondition),
            **(app_config.dependencies or {}),
        }
        app_config.type_encoders = {Secret: _masked, **(app_config.type_encoders or {})}
        app_config.type_decoders = [(_is_secret, secret_dec_hook), *(app_config.type_decoders or [])]
        handlers: dict[Any, Any] = {
            TallystickError: _failed,
            ValidationException: _unreadable,
            HTTPException: _refused,
            RecursionError: _too_deep,
        }
        app_config.exception_handlers = {**handlers, **app_config.exception_handlers}
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Describe the problem documents.

        Raises ``Declaration`` for a handler that takes a whole entity, or two filters of the same parameters.
        """
        if not isinstance(route, HTTPRoute):
            return
        for handler in route.route_handlers:
            body = handler.parsed_fn_signature.parameters.get("data")
            if body is not None:
                refuse_entities(body.annotation)
            queries.names_together(_filters(handler.parsed_fn_signature.parameters, handler.resolve_dependencies()))
            handler.responses = {**_PROBLEMS, **(handler.responses or {})}

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Whether a type is an entity, what a client may set of one or ask for, or a sealed value."""
        return _is_secret(value) or (isinstance(value, type) and issubclass(value, (Entity, *_TAKEN)))

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether a field holds one."""
        return not field_definition.is_union and self.is_plugin_supported_type(
            field_definition.origin or field_definition.annotation
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """A sealed value: a mask on the way out, text on the way in. An entity: all its fields. A body: no others."""
        kind = field_definition.annotation
        if _is_secret(kind):
            inner = (get_args(kind) or (str,))[0]
            return Schema(
                type=OpenAPIType.STRING if inner is str else None, description="Sealed: goes out as its mask."
            )
        hints, declared = field_definition.get_type_hints(include_extras=True), msgspec.structs.fields(kind)
        taken = issubclass(kind, _TAKEN)
        made: Schema = schema_creator.create_component_schema(
            field_definition,
            required=sorted(f.name for f in declared if f.required or not taken),
            property_fields={f.name: FieldDefinition.from_annotation(hints[f.name], name=f.name) for f in declared},
        )
        if taken:
            made.additional_properties = False
        # References are Litestar's own; of all else msgspec knows more: lengths, formats, states that were added.
        schema, found = components(kind)
        for name, said in found[schema["$ref"].rsplit("/", 1)[1]]["properties"].items():
            if made.properties is not None and "$ref" not in str(said):
                made.properties[name] = _read(said)
        return made

    @asynccontextmanager
    async def _life(self, app: Litestar) -> AsyncIterator[None]:
        ours = await opened(self.access.tally)
        try:
            yield
        finally:
            if ours:
                await self.access.tally.close()


@asynccontextmanager
async def session_of(request: _Request) -> AsyncIterator[Session]:
    """A session for a request, for code that is no handler: middleware, streams and tasks that outlive theirs."""
    access: Access = request.app.state["tallystick"]
    async with await access.session(request) as db:
        yield db


async def _session(request: _Request) -> AsyncIterator[Session]:
    # No generator inside this one: Litestar drops it unfinished where a later dependency refuses the request.
    access: Access = request.app.state["tallystick"]
    async with await access.session(request) as db:
        yield db


async def _precondition(
    if_match: Annotated[str | None, HeaderParameter(name="If-Match")] = None,
) -> Precondition:
    return Precondition(if_match)


def filtered(kind: type[Filter] | type[PageQuery]) -> Provide:
    """What provides a filter of the query string: ``dependencies={"where": filtered(Loan.Filter)}``."""

    async def read(request: _Request, **_given: Any) -> Any:
        # Litestar reads the same parameters by the signature, which describes them; what is strict is read here.
        return queries.read(kind, request.query_params.multi_items(), _known(request))

    parameters, hints = [], {"request": _Request, "return": kind}
    parameters.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=_Request))
    for field in msgspec.structs.fields(kind):
        # Under another name, because a field may be called as something that Litestar keeps for itself.
        name = f"{kind.__name__}_{field.name}"
        limited = field.name == "limit"
        about = QueryParameter(name=field.name, ge=1 if limited else None, le=MAX_LIMIT if limited else None)
        bare = int if limited else field.type
        hints[name] = Annotated[bare, about]  # type: ignore[assignment]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[name], default=field.default)
        )
    read.__signature__ = inspect.Signature(parameters, return_annotation=kind)  # type: ignore[attr-defined]
    read.__annotations__ = hints
    read.reads = kind  # type: ignore[attr-defined]
    return Provide(read)


def _filters(fields: Any, provided: Any) -> list[Any]:
    """The filters and ``PageQuery`` that a handler, or what it depends on, has read for it."""
    left, seen = list(fields), set[str]()
    while left:
        name = left.pop()
        if name in provided and name not in seen:
            seen.add(name)
            left += provided[name].parsed_fn_signature.parameters
    return [kind for name in seen if (kind := getattr(provided[name].dependency, "reads", None)) is not None]


def _known(request: _Request) -> frozenset[str]:
    """The names that a handler and its dependencies take of a query string."""
    handler = request.route_handler
    opt = handler.opt
    found = opt.get("tallystick_known")
    if found is None:
        used = _used(handler.parsed_fn_signature.parameters, handler.resolve_dependencies(), set())
        found = opt["tallystick_known"] = frozenset(used)
    return frozenset(found)


def _used(fields: Any, provided: Any, seen: set[str]) -> set[str]:
    names: set[str] = set()
    for name, field in fields.items():
        if name in provided:
            if name not in seen:
                names |= _used(provided[name].parsed_fn_signature.parameters, provided, seen | {name})
        else:
            about = field.kwarg_definition
            names.add(getattr(about, "query", None) or getattr(about, "name", None) or name)
    return names


def _read(said: dict[str, Any]) -> Schema:
    """A JSON schema without references as Litestar holds it, which knows no keywords of the application's own."""
    given = {_KEYWORDS[name]: value for name, value in said.items() if name in _KEYWORDS}
    for name, value in given.items():
        if name in ("items", "additional_properties", "property_names") and isinstance(value, dict):
            given[name] = _read(value)
        elif name in ("any_of", "prefix_items"):
            given[name] = [_read(one) for one in value]
        elif name == "type":
            given[name] = OpenAPIType(value)
    return Schema(**given)


def _is_secret(kind: Any) -> bool:
    return kind is Secret or getattr(kind, "__origin__", None) is Secret


def _masked(value: Secret[Any]) -> str:
    return value.mask


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(encode(problem), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def _failed(request: _Request, error: TallystickError) -> Response[bytes]:
    return _answer(*problem_of(error, conditional="if-match" in request.headers))


def _unreadable(request: _Request, error: ValidationException) -> Response[bytes]:
    found = error.extra if isinstance(error.extra, list) else []
    mistakes = []
    for one in found:
        parts = str(one.get("key", "")).split(".") if isinstance(one, dict) else []
        where = [getattr(one.get("source"), "value", one.get("source")) if isinstance(one, dict) else None, *parts]
        mistakes.append(Mistake(place(where), "It is missing or has a wrong value."))
    return _answer(unreadable(mistakes))


def _refused(request: _Request, error: HTTPException) -> Response[bytes]:
    return _answer(refused(error.status_code, error.detail), error.headers)


def _too_deep(request: _Request, error: RecursionError) -> Response[bytes]:
    """A document nested so deeply that Litestar's reader gave up; one in the application's own code is its mistake."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else str(at.tb_frame.f_globals.get("__name__", ""))
    return _answer(refused(400 if where.startswith("litestar.") else 500))
