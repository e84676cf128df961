"""The edge of the web: what a client sends is neither repeated, nor believed, nor more than it may set."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from litestar import Litestar, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from tests.adoption.apps import fastapi_app, litestar_app
from tests.adoption.apps.backoffice import Tokens
from tests.adoption.branches import BranchUser
from tests.entities import Visit

from tallystick import (
    Application,
    Declaration,
    Entity,
    Invalid,
    Loan,
    Page,
    PageQuery,
    QuotaExceeded,
    Ref,
    StaleVersion,
    Tallystick,
    Transfer,
    Unsupported,
    User,
)
from tallystick.entity import spec_of
from tallystick.errors import TallystickError
from tallystick.spec import SYSTEM_FIELDS
from tallystick.web.fastapi import Db, TallystickRoute, install
from tallystick.web.litestar import TallystickPlugin, filtered
from tallystick.web.problems import problem_of

CANARY = "Zebulon.Quist@example.org"


@pytest.fixture(scope="module", params=["fastapi", "litestar"])
async def edge(request: pytest.FixtureRequest, tally: Tallystick) -> AsyncIterator[dict[str, Any]]:
    tokens, slugs = Tokens(), [f"edge-{uuid4().hex[:12]}" for _ in range(2)]
    for slug in slugs:
        await tally.tenants.create(slug, name="A lender")
        async with tally.session(slug, actor="test", permissions=["*"]) as db:
            await db.users.add_many([User(first_name=f"U{n}") for n in range(3)])
    make_app = {"fastapi": fastapi_app, "litestar": litestar_app}[request.param].make_app
    transport = httpx.ASGITransport(make_app(tally, tokens))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield {
            "client": client,
            "slugs": slugs,
            "mine": tokens.issue("mine", slugs[0], "user:m", "*"),
            "other": tokens.issue("other", slugs[1], "user:o", "*"),
        }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", {"email": CANARY, "role": "admin"}),
        ("POST", "/users", {CANARY: 1}),
        ("POST", "/users", {"email": [CANARY]}),
        ("POST", "/users", CANARY),
        ("POST", "/applications", {"full_legal_name": CANARY, "employment_status": CANARY}),
        ("POST", "/applications", {"full_legal_name": CANARY, "ssn": {"is": CANARY}, "annual_income": CANARY}),
        ("GET", f"/users?email={CANARY}&role={CANARY}", None),
        ("GET", f"/users?{CANARY}=1", None),
        ("GET", f"/users?id={CANARY}", None),
        ("GET", f"/users?after={CANARY}", None),
        ("GET", f"/users/{CANARY}", None),
    ],
)
async def test_a_value_is_in_no_answer_and_in_no_log(
    edge: dict[str, Any], caplog: pytest.LogCaptureFixture, method: str, path: str, body: Any
) -> None:
    # The client's own log has the URL it asks for; the servers' must not.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with caplog.at_level(logging.DEBUG):
        answer = await edge["client"].request(method, path, json=body, headers=edge["mine"])
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    ours = " ".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    assert CANARY not in answer.text
    assert CANARY not in ours


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 5_000, b"null", b'{"email": NaN}', b"1e999"])
async def test_what_is_no_document_is_refused(edge: dict[str, Any], body: bytes) -> None:
    headers = {**edge["mine"], "Content-Type": "application/json"}
    answer = await edge["client"].post("/users", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_huge_body_is_refused_before_it_is_read(edge: dict[str, Any]) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"first_name": "'
        for _ in range(200):
            yield b"A" * 65_536

    headers = {**edge["mine"], "Content-Type": "application/json"}
    for content in (endless(), b"A" * 11_000_000):
        answer = await edge["client"].post("/users", content=content, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_only_what_the_limit_says_becomes_a_problem(tally: Tallystick) -> None:
    app = _installed(tally)

    @app.post("/take")
    async def take() -> PlainTextResponse:
        return PlainTextResponse("Too heavy for the cart.", 413)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        own, ours = [await client.post("/take", content=b"A" * size) for size in (1, 2_000_000)]
    assert (own.status_code, own.text) == (413, "Too heavy for the cart.")
    assert (ours.status_code, ours.headers["content-type"]) == (413, "application/problem+json")
    assert ours.json()["status"] == 413


async def test_no_header_chooses_the_tenant_or_the_actor(edge: dict[str, Any]) -> None:
    forged = dict.fromkeys(
        ("X-Tenant", "X-Tenant-ID", "Tenant", "X-Actor", "X-User", "Tally-Tenant", "X-Forwarded-Host"), edge["slugs"][1]
    )
    mine = await edge["client"].get("/users", headers=edge["mine"])
    same = await edge["client"].get("/users", headers={**edge["mine"], **forged})
    assert [u["id"] for u in same.json()["items"]] == [u["id"] for u in mine.json()["items"]]
    asked = await edge["client"].get(f"/users?tenant_id={edge['slugs'][1]}", headers=edge["mine"])
    assert asked.status_code == 422


async def test_a_cursor_and_an_id_of_another_tenant_lead_nowhere(edge: dict[str, Any]) -> None:
    client = edge["client"]
    theirs = (await client.get("/users?limit=1", headers=edge["other"])).json()
    stolen = await client.get("/users", params={"limit": 1, "after": theirs["next"]}, headers=edge["mine"])
    assert (stolen.status_code, stolen.json()["field"]) == (422, "after")
    assert (await client.get(f"/users/{theirs['items'][0]['id']}", headers=edge["mine"])).status_code == 404


@pytest.mark.parametrize("given", ["a\tb", "x" * 129, "<script>", "a;b", "'--"])
async def test_a_request_id_that_is_none_is_replaced(edge: dict[str, Any], tally: Tallystick, given: str) -> None:
    made = await edge["client"].post(
        "/users", json={"first_name": "R"}, headers={**edge["mine"], "X-Request-ID": given}
    )
    assert made.status_code == 201
    async with tally.session(edge["slugs"][0], actor="t", permissions=["*"]) as db:
        (version,) = await db.users.history(UUID(made.json()["id"]))
    assert version.request != given
    assert len(version.request or "") == 36


@pytest.mark.parametrize(
    "name", [*SYSTEM_FIELDS, "role", "permissions", "status", "is_verified", "password_hash", "ref"]
)
async def test_only_what_a_client_may_set_can_be_set(edge: dict[str, Any], name: str) -> None:
    for value in ("admin", ["*"], True, str(uuid4()), None, 7):
        answer = await edge["client"].post("/users", json={"first_name": "M", name: value}, headers=edge["mine"])
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("entity", [User, Application, Visit], ids=lambda e: e.__name__)
def test_no_input_holds_what_the_database_or_the_application_keeps(entity: Any) -> None:
    spec = spec_of(entity)
    moved = {t.field for t in spec.transitions}
    for kind in (entity.New, entity.Change):
        taken = set(kind.__struct_fields__)
        assert taken
        assert not taken & ({*SYSTEM_FIELDS} | moved)
        assert not [n for n in taken if spec.fields[n].maintained]
    assert not [n for n in entity.Change.__struct_fields__ if spec.fields[n].once]


def test_what_operations_write_has_no_input() -> None:
    for entity in (Loan, Transfer):
        with pytest.raises(Unsupported):
            _ = entity.New


def test_a_reference_in_a_body_is_an_id_and_nothing_else() -> None:
    ref: dict[str, Any] = {"id": str(uuid4()), "loaded": {"role": "admin"}}
    body = {"borrower": ref, "national_id": "1", "fee": {"units": 1, "asset": "USD"}}
    with pytest.raises(Invalid) as caught:
        Visit.New.decode(json.dumps(body))
    assert caught.value.field == "borrower"
    del ref["loaded"]
    made = Visit.New.decode(json.dumps(body)).entity()
    assert (made.version, made.borrower.loaded) == (0, None)


def test_every_error_has_a_status_and_tells_no_value(caplog: pytest.LogCaptureFixture) -> None:
    found = [TallystickError]
    for kind in found:
        found += kind.__subclasses__()
        caplog.clear()
        problem, headers = problem_of(kind("The thing is wrong."))
        # What the client does not hear the operator does.
        assert [r.getMessage().count("The thing is wrong.") for r in caplog.records] == [1] * (problem.status >= 500)
        assert 400 <= problem.status <= 599
        assert (problem.status in (503, 429)) == ("Retry-After" in headers)
        assert bool(problem.detail) == (problem.status < 500)
    assert problem_of(StaleVersion("x"), conditional=True)[0].status == 412
    tomorrow = QuotaExceeded("x", until=datetime.now(UTC) + timedelta(days=1))
    assert 86_390 <= int(problem_of(tomorrow)[1]["Retry-After"]) <= 86_400
    assert problem_of(Invalid("x", field=CANARY))[0].field == ""


class Hidden(msgspec.Struct):
    """A whole entity, inside a body."""

    people: list[User]


def _installed(tally: Tallystick, **answers: Any) -> FastAPI:
    app = FastAPI()
    given: dict[str, Any] = {"tenant": lambda _: "x", "actor": lambda _: "t", "permissions": lambda _: ["*"], **answers}
    install(app, tally, **given)
    return app


@pytest.mark.parametrize("kind", [Hidden, list[User], dict[str, User], User | None, list[Hidden]], ids=str)
def test_no_body_holds_a_whole_entity(tally: Tallystick, kind: Any) -> None:
    async def take(data: Any) -> None: ...

    take.__annotations__ = {"data": kind, "return": None}
    with pytest.raises(Declaration, match="whole User"):
        _installed(tally).post("/x")(take)
    plugin = TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t")
    take.__annotations__ = {"data": JSONBody[kind], "return": None}
    with pytest.raises(Declaration, match="whole User"):
        Litestar([post("/x")(take)], plugins=[plugin])


def test_what_a_body_calls_loaded_is_no_entity() -> None:
    class Letter(msgspec.Struct):
        to: Ref[User]

    sent = {"to": {"id": str(uuid4()), "loaded": {"role": "admin"}}}
    with pytest.raises(Invalid, match="not been loaded"):
        _ = msgspec.convert(sent, Letter).to.value


def test_no_body_is_read_from_the_query_string(tally: Tallystick) -> None:
    """URLs are in the logs of proxies, and a body that is looked for there is never found."""

    async def take(new: User.New) -> None: ...

    async def perhaps(new: User.New | None = None) -> None: ...

    async def where(where: User.Filter = Depends()) -> None: ...  # type: ignore[assignment]

    async def through(new: Any = Depends(take)) -> None: ...

    for handler in (perhaps, through):
        with pytest.raises(Declaration, match="query string"):
            _installed(tally).post("/x")(handler)
    for handler in (take, where):
        app, router = _installed(tally), APIRouter()
        router.post("/x")(handler)
        app.include_router(router)
        with pytest.raises(Declaration, match="query string"):
            app.openapi()
        early = FastAPI()
        early.post("/x")(handler)
        install(early, tally, tenant=lambda _: "x", actor=lambda _: "t")
        with pytest.raises(Declaration, match="query string"):
            early.openapi()


def test_an_application_has_one_tally(tally: Tallystick) -> None:
    """Of two, handlers would get the later one's rows, whichever they were written for."""
    app = _installed(tally)
    plugins = [TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t") for _ in "12"]
    with pytest.raises(Declaration, match="already"):
        install(app, tally, tenant=lambda _: "y", actor=lambda _: "t")
    with pytest.raises(Declaration, match="already"):
        Litestar([], plugins=plugins)


def test_two_filters_do_not_read_one_parameter_in_litestar_either(tally: Tallystick) -> None:
    async def both(where: NamedDependency[Loan.Filter], who: NamedDependency[User.Filter]) -> None: ...

    both.__annotations__ = {"where": NamedDependency[Loan.Filter], "who": NamedDependency[User.Filter], "return": None}
    given = {"where": filtered(Loan.Filter), "who": filtered(User.Filter)}
    plugin = TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t")
    with pytest.raises(Declaration, match="read twice"):
        Litestar([get("/x", dependencies=given)(both)], plugins=[plugin])


def test_keywords_of_the_applications_own_do_not_break_the_document(tally: Tallystick) -> None:
    class Ware(Entity):
        """Something sold."""

        name: Annotated[str, msgspec.Meta(examples=["oats"], extra_json_schema={"x-shown": True})]
        parts: Annotated[dict[str, int], msgspec.Meta(extra_json_schema={"example": {"bran": 3}})]

    async def ware() -> Ware: ...

    ware.__annotations__ = {"return": Ware}
    plugin = TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t")
    document = Litestar([get("/x")(ware)], plugins=[plugin]).openapi_schema.to_schema()
    (found,) = [one for name, one in document["components"]["schemas"].items() if name.endswith("Ware")]
    assert found["properties"]["name"] == {"type": "string", "examples": ["oats"]}
    parts = found["properties"]["parts"]
    assert (parts["example"], parts["additionalProperties"]["type"]) == ({"bran": 3}, "integer")


def test_a_filter_marked_as_a_body_stays_out_of_the_query_string(tally: Tallystick) -> None:
    app = _installed(tally)

    @app.post("/search")
    async def search(db: Db, where: Annotated[User.Filter, Body()]) -> None: ...

    operation = app.openapi()["paths"]["/search"]["post"]
    assert [p["in"] for p in operation.get("parameters", ())] == []
    assert "UserFilter" in str(operation["requestBody"])


def test_two_types_of_one_name_are_both_described(tally: Tallystick) -> None:
    app = _installed(tally)
    kinds = [msgspec.defstruct("Answer", [(name, int)]) for name in ("first", "second")]
    for number, kind in enumerate(kinds):

        async def take(body: Any) -> None: ...

        take.__annotations__ = {"body": kind, "return": None}
        app.post(f"/{number}")(take)
    document = app.openapi()
    named = [document["paths"][f"/{n}"]["post"]["requestBody"]["content"] for n in range(2)]
    found = [
        document["components"]["schemas"][one["application/json"]["schema"]["$ref"].split("/")[-1]] for one in named
    ]
    assert [list(one["properties"]) for one in found] == [["first"], ["second"]]


@pytest.mark.parametrize("option", ["include", "exclude", "exclude_unset", "exclude_defaults", "exclude_none"])
def test_what_would_leave_nothing_out_of_an_answer_is_refused(tally: Tallystick, option: str) -> None:
    async def user() -> User: ...

    given: dict[str, Any] = {f"response_model_{option}": True if "_" in option else {"role"}}
    with pytest.raises(Declaration, match=f"response_model_{option} "):
        _installed(tally).get("/x", **given)(user)


async def test_an_answer_is_written_once_whatever_the_response_class(tally: Tallystick) -> None:
    app, router = _installed(tally), APIRouter(route_class=TallystickRoute, default_response_class=JSONResponse)
    user = User(first_name="Ada")

    @app.get("/own", response_class=JSONResponse)
    async def own() -> list[User]:
        return [user]

    @router.get("/routers")
    async def routers() -> list[User]:
        return [user]

    @app.get("/usual")
    def usual() -> list[User]:
        return [user]

    @app.get("/untold")
    async def untold():  # type: ignore[no-untyped-def]
        return [user]

    @app.get("/any", status_code=202)
    def some() -> dict[str, Any]:
        return {"user": user, "by": (user.id, user.created_at)}

    kinds: Any = (dict[str, Any] | None, Mapping[str, Any], Annotated[dict[str, list[Any]], "told"])
    for number, kind in enumerate(kinds):

        async def open_ended() -> Any:
            return {"user": [user]}

        open_ended.__annotations__ = {"return": kind}
        app.get(f"/open/{number}")(open_ended)

    @app.get("/pair")
    async def pair() -> tuple[Any, ...]:
        return (user,)

    @app.get("/lines")
    async def lines(page: Annotated[PageQuery, Depends()]) -> AsyncIterable[User]:
        yield user

    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        found = [(await client.get(path)).json() for path in ("/own", "/routers", "/usual", "/untold", "/pair")]
        found += [(await client.get(f"/open/{number}")).json()["user"] for number in range(len(kinds))]
        other = await client.get("/any")
        (line,) = (await client.get("/lines?limit=1")).text.splitlines()
    assert found == [[json.loads(line)]] * (5 + len(kinds))
    assert (other.status_code, other.json()["user"]) == (202, json.loads(line))
    assert line.startswith('{"id":"')


def test_both_documents_say_what_goes_out_and_what_may_come_in(tally: Tallystick) -> None:
    class Answer(msgspec.Struct):
        page: Page[BranchUser]

    async def take(data: Any) -> None: ...

    async def where(data: Any) -> None: ...

    take.__annotations__ = {"data": Visit.New, "return": Answer}
    where.__annotations__ = {"data": Visit.Filter, "return": None}
    app = _installed(tally)
    app.post("/x")(take)
    fast = app.openapi()["components"]["schemas"]
    take.__annotations__["data"], where.__annotations__["data"] = JSONBody[Visit.New], JSONBody[Visit.Filter]
    plugin = TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t")
    lite = Litestar([post("/x")(take), post("/y")(where)], plugins=[plugin]).openapi_schema.to_schema()
    lite = lite["components"]["schemas"]
    assert lite["VisitFilter"]["additionalProperties"] is False
    for found in (fast, lite):
        user, new = found["BranchUser"], found["VisitNew"]
        assert set(user["required"]) == set(user["properties"]) == set(BranchUser.__struct_fields__)
        assert "on_leave" in user["properties"]["status"]["enum"]
        assert set(new["required"]) == {"borrower", "national_id", "fee"}
    assert set(fast["Page_BranchUser_"]["required"]) == set(Page.__struct_fields__)
    for name in ("created_at", "desk", "tier", "since", "custom", "iban"):
        assert lite["BranchUser"]["properties"][name] == fast["BranchUser"]["properties"][name]


@pytest.mark.parametrize("nothing", [{"tenant": lambda _: None}, {"actor": lambda _: None}, {"actor": lambda _: ""}])
async def test_who_is_nobody_gets_401(tally: Tallystick, nothing: dict[str, Any]) -> None:
    app = _installed(tally, **nothing)

    @app.get("/users")
    async def users(db: Db) -> int:
        return await db.users.count()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/users")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (False, [("websocket.http.response.start", 401, None), ("websocket.http.response.body", None, None)]),
        (True, [("websocket.accept", None, None), ("websocket.close", None, 1008)]),
    ],
)
async def test_a_websocket_has_a_session_and_hears_of_errors(
    tally: Tallystick, tenant: str, known: bool, told: list[Any]
) -> None:
    app, sent = _installed(tally, tenant=lambda _: tenant if known else None), []

    @app.websocket("/users")
    async def count(socket: WebSocket, db: Db) -> None:
        await socket.accept()
        await db.users.get(uuid4())

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append((message["type"], message.get("status"), message.get("code")))

    denial: dict[str, Any] = {"websocket.http.response": {}}
    scope = {"type": "websocket", "path": "/users", "headers": [], "query_string": b"", "subprotocols": []}
    await app({**scope, "extensions": denial}, receive, send)
    assert sent == told
