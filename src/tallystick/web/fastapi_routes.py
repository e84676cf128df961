"""FastAPI's route class for handlers that take filters and bodies of ours, and answer entities and pages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast, get_args, get_origin

import msgspec
from fastapi import Body, Depends, Request
from fastapi.datastructures import DefaultPlaceholder
from fastapi.params import Body as Bodily
from fastapi.params import Depends as Depending
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from tallystick.errors import Declaration
from tallystick.filters import Filter
from tallystick.page import PageQuery
from tallystick.web import queries, schemas
from tallystick.web.models import Wire, is_ours
from tallystick.web.problems import MEDIA_TYPE, NOT_NOW, REFUSED

# Whose parts are known only when a route is declared.
_ANNOTATED: Any = Annotated
_UNTOLD = (inspect.Signature.empty, None, Any, object, dict, list, tuple, Mapping, Sequence)
"""Annotations by which FastAPI cannot know that there are entities in an answer."""
_NARROWING = (
    "response_model_include",
    "response_model_exclude",
    *(f"response_model_exclude_{part}" for part in ("unset", "defaults", "none")),
)
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": schemas.REF.format(name="Problem")}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": REFUSED, "content": _PROBLEM},
    "503": {"description": NOT_NOW, "content": _PROBLEM},
}


class WireResponse(JSONResponse):
    """A body that msgspec has written already."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return content.encode() if isinstance(content, str) else schemas.encode(content)


class TallystickRoute(APIRoute):
    """A route whose handler may take filters, ``PageQuery``, ``X.New`` and ``X.Change``, and answer entities and pages.

    Raises ``Declaration`` for a handler that takes a whole entity in its body, for a body where FastAPI reads it from
    the query string, and for a ``response_model_exclude`` or the like, which msgspec would not obey.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        described: list[dict[str, Any]] = []
        plain = _signature(endpoint)
        # What a generator yields FastAPI writes item by item, as pydantic's protocol says.
        streams = inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint)
        if plain is not None:
            endpoint = self._adapted(endpoint, plain, described)
            answer = options.get("response_model")
            if isinstance(answer, DefaultPlaceholder) or answer is None:
                answer = plain.return_annotation if isinstance(answer, DefaultPlaceholder) else None
            if is_ours(answer) and not streams:
                _refuse_narrowing(options)
                ours = isinstance(options.get("response_class"), DefaultPlaceholder)
                options["response_model"] = Annotated[answer, Wire(answer, text=ours)]
                if ours:
                    options["response_class"] = WireResponse
            elif not streams and inspect.isroutine(endpoint) and _untold(answer):
                endpoint = _plainly(endpoint)
        options["responses"] = {**_PROBLEMS, **(options.get("responses") or {})}
        if described:
            extra = dict(options.get("openapi_extra") or {})
            extra["parameters"] = [*extra.get("parameters", ()), *described]
            options["openapi_extra"] = extra
        self._known: dict[int, tuple[Any, frozenset[str]]] = {}
        super().__init__(path, endpoint, **options)
        refuse_query(self.dependant)

    def _adapted(
        self, endpoint: Callable[..., Any], plain: inspect.Signature, described: list[dict[str, Any]]
    ) -> Callable[..., Any]:
        """The handler as FastAPI understands it, and the parameters that only we can describe."""
        kinds = [k for p in plain.parameters.values() if (k := _query_of(p)) is not None]
        names = queries.names_together(kinds)
        parameters = []
        for parameter in plain.parameters.values():
            annotation, default = parameter.annotation, parameter.default
            bare, marks = _parts(annotation)
            kind = _query_of(parameter)
            if kind is None and not _depends(annotation, default):
                schemas.refuse_entities(bare)
            if kind is not None:
                described += schemas.parameters(kind)
                annotation, default = Annotated[kind, Depends(self._reader(kind, names))], inspect.Parameter.empty
            elif bare is annotation and _is_body(bare, default):
                if isinstance(default, Bodily) and default.is_required():
                    body, default = default, inspect.Parameter.empty
                else:
                    body = Body()
                annotation = _ANNOTATED[bare, body, Wire(bare)]
            elif _is_body(bare, default) and any(isinstance(m, Bodily) for m in marks):
                annotation = _ANNOTATED[bare, *marks, Wire(bare)]
            parameters.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            )
        if not kinds and all(p == q for p, q in zip(parameters, plain.parameters.values(), strict=True)):
            return endpoint
        adapted: Callable[..., Any] = _wrapped(endpoint)
        cast("Any", adapted).__signature__ = plain.replace(parameters=parameters)
        return adapted

    def _reader(self, kind: Any, names: frozenset[str]) -> Callable[..., Any]:
        async def read(request: Request) -> Any:
            return queries.read(kind, request.query_params.multi_items(), names | self._others(request))

        return read

    def _others(self, request: Request) -> frozenset[str]:
        """The parameters that the rest of the handler takes, its router's dependencies included."""
        context = request.scope.get("fastapi", {})
        found = getattr(context.get("effective_route_context"), "dependant", None) or self.dependant
        if id(found) not in self._known:
            # The dependant is kept with its names, so that its id is not another's later.
            self._known[id(found)] = (found, frozenset(_declared(found)))
        return self._known[id(found)][1]


def _declared(dependant: Any) -> set[str]:
    names: set[str] = set()
    for field in dependant.query_params:
        inside = getattr(field.field_info.annotation, "model_fields", None)
        names |= {(info.alias or name) for name, info in inside.items()} if inside else {field.alias}
    return names.union(*(_declared(inner) for inner in dependant.dependencies))


def _signature(endpoint: Callable[..., Any]) -> inspect.Signature | None:
    """The handler's signature with its annotations read; None where one cannot be, which FastAPI tells better."""
    try:
        return inspect.signature(endpoint, eval_str=True)
    except (NameError, TypeError):
        return None


def _untold(answer: Any) -> bool:
    """Whether an answer's annotation leaves open what is in it, or in a part of it."""
    bare, _ = _parts(answer)
    return bare in _UNTOLD or any(map(_untold, get_args(bare)))


def _plainly(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that does not tell what it answers, whose entities then go out as what JSON knows."""
    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def awaited(*args: Any, **given: Any) -> Any:
            return schemas.plain(await endpoint(*args, **given))

        return awaited

    @functools.wraps(endpoint)
    def called(*args: Any, **given: Any) -> Any:
        return schemas.plain(endpoint(*args, **given))

    return called


def _refuse_narrowing(options: dict[str, Any]) -> None:
    """Raise ``Declaration`` for options by which FastAPI leaves fields out of an answer: msgspec writes it whole."""
    for name in _NARROWING:
        if options.get(name):
            raise Declaration(
                f"{name} would leave nothing out of an answer that holds entities or Structs.",
                remedy="Answer a msgspec.Struct of what may be seen.",
            )


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A parameter's type, and what an ``Annotated`` says of it."""
    found = get_args(annotation)
    return (found[0], found[1:]) if get_origin(annotation) is Annotated else (annotation, ())


def refuse_query(dependant: Any) -> None:
    """Raise ``Declaration`` where FastAPI would read a body, or half of a filter, from the query string."""
    lost = [f.field_info.annotation for f in (*dependant.query_params, *dependant.header_params)]
    found = next((kind for kind in lost if is_ours(kind, msgspec.Struct)), None)
    if found is None and isinstance(dependant.call, type) and issubclass(dependant.call, Filter):
        found = dependant.call
    if found is not None:
        name = getattr(found, "__name__", "A body")
        raise Declaration(
            f"{name} would be read from the query string, where it cannot be.",
            remedy="Call install(app, ...) before routes are declared, make routers with "
            "APIRouter(route_class=TallystickRoute), and mark a body of a dependency, or one that may be missing, "
            "with Body().",
        )
    for inner in dependant.dependencies:
        refuse_query(inner)


def _query_of(parameter: inspect.Parameter) -> Any:
    """The filter or ``PageQuery`` that a parameter takes from the query string; with ``= Body()`` it is the body."""
    bare, marks = _parts(parameter.annotation)
    if any(isinstance(m, Bodily) for m in (parameter.default, *marks)) or not isinstance(bare, type):
        return None
    return bare if issubclass(bare, (Filter, PageQuery)) else None


def _is_body(bare: Any, default: Any) -> bool:
    """Whether a parameter is a body that msgspec reads; one with another marker or an optional body is FastAPI's."""
    plain = default is inspect.Parameter.empty or (isinstance(default, Bodily) and default.is_required())
    return plain and isinstance(bare, type) and issubclass(bare, msgspec.Struct)


def _depends(annotation: Any, default: Any) -> bool:
    return isinstance(default, Depending) or any(isinstance(a, Depending) for a in get_args(annotation)[1:])


def _wrapped(endpoint: Callable[..., Any]) -> Any:
    """A function of its own to hang the signature on: the handler may be declared elsewhere too."""
    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def awaited(**given: Any) -> Any:
            return await endpoint(**given)

        return awaited

    @functools.wraps(endpoint)
    def called(**given: Any) -> Any:
        return endpoint(**given)

    return called
