"""FastAPI beside the data: sessions from requests, entities in and out, errors as problem documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Query, Request
from pydantic import BaseModel, ValidationError
from tests.adoption.apps.backoffice import Tokens
from tests.adoption.apps.fastapi_app import make_app
from tests.entities import Visit

from tallystick import Declaration, Loan, Money, Ref, Tallystick, User, secret, usd
from tallystick.testing.factories import Make
from tallystick.testing.recipes import active_loan
from tallystick.web.fastapi import Db, install, session_of

EVERYTHING = ("*",)


@pytest.fixture(scope="module")
async def ground(tally: Tallystick) -> AsyncIterator[dict[str, Any]]:
    """Two tenants with loans, a token for each, and the sample application in process."""
    tokens, slugs = Tokens(), [f"web-{uuid4().hex[:12]}" for _ in range(2)]
    made: dict[str, Any] = {"tokens": tokens, "slugs": slugs, "loans": []}
    for slug in slugs:
        await tally.tenants.create(slug, name="A lender")
    async with tally.session(slugs[0], actor="test", permissions=EVERYTHING) as db:
        make = Make(db, seed="web")
        made["loans"] = [await active_loan(make, outstanding=usd("100")) for _ in range(3)]
    made["mine"] = tokens.issue("one", slugs[0], "user:clerk", *EVERYTHING)
    made["other"] = tokens.issue("two", slugs[1], "user:clerk", *EVERYTHING)
    made["plain"] = tokens.issue("three", slugs[0], "user:nobody")
    app = made["app"] = make_app(tally, tokens)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        made["client"] = client
        yield made


async def test_a_page_is_filtered_and_leads_to_the_next(ground: dict[str, Any]) -> None:
    client, mine = ground["client"], ground["mine"]
    first = await client.get("/loans", params={"status_in": ["active", "closed"], "limit": 2}, headers=mine)
    assert first.status_code == 200
    body = first.json()
    assert [len(body["items"]), body["limit"]] == [2, 2]
    assert body["items"][0]["principal"] == {"units": 10000, "asset": "USD"}
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = await client.get(link[1 : link.index(">")], headers=mine)
    assert len(second.json()["items"]) == 1
    assert "link" not in second.headers
    none = await client.get("/loans", params={"principal_from": "100.01 USD"}, headers=mine)
    assert none.json()["items"] == []


async def test_a_loan_is_repaid_once_however_often_it_is_sent(ground: dict[str, Any]) -> None:
    client, mine, loan = ground["client"], ground["mine"], ground["loans"][0]
    body = {"amount": {"units": 1000, "asset": "USD"}}
    sent = [
        await client.post(f"/loans/{loan.id}/repayments", json=body, headers={**mine, "Idempotency-Key": "k1"})
        for _ in range(2)
    ]
    assert [r.status_code for r in sent] == [201, 201]
    assert [r.json()["replayed"] for r in sent] == [False, True]
    other = {"amount": {"units": 2000, "asset": "USD"}}
    reused = await client.post(f"/loans/{loan.id}/repayments", json=other, headers={**mine, "Idempotency-Key": "k1"})
    assert (reused.status_code, reused.json()["code"]) == (409, "TS-1204")
    keyless = await client.post(f"/loans/{loan.id}/repayments", json=body, headers=mine)
    assert keyless.status_code == 422


async def test_a_user_is_added_changed_and_guarded_by_its_version(ground: dict[str, Any]) -> None:
    client, mine = ground["client"], ground["mine"]
    made = await client.post("/users", json={"email": "ada@example.org", "first_name": "Ada"}, headers=mine)
    assert made.status_code == 201
    where = f"/users/{made.json()['id']}"
    seen = await client.get(where, headers=mine)
    tag = {"If-Match": seen.headers["etag"]}
    first = await client.patch(where, json={"first_name": "Augusta", "last_name": None}, headers={**mine, **tag})
    assert (first.status_code, first.json()["first_name"], first.json()["version"]) == (200, "Augusta", 2)
    late = await client.patch(where, json={"first_name": "A."}, headers={**mine, **tag})
    assert (late.status_code, late.json()["code"]) == (412, "TS-1201")
    twice = await client.post("/users", json={"email": "ADA@example.org"}, headers=mine)
    assert (twice.status_code, twice.json()["code"]) == (409, "TS-1202")
    found = await client.get("/users", params={"email": "Ada@Example.org"}, headers=mine)
    assert [u["id"] for u in found.json()["items"]] == [made.json()["id"]]
    searched = await client.post("/users/search", json={"email": "ada@example.org", "role_in": ["user"]}, headers=mine)
    assert [u["id"] for u in searched.json()] == [made.json()["id"]]
    assert (await client.post("/users/search", json={"mail": "ada@example.org"}, headers=mine)).status_code == 422


async def test_what_is_sealed_goes_out_masked_and_opens_for_a_reason(ground: dict[str, Any], tally: Tallystick) -> None:
    client, mine = ground["client"], ground["mine"]
    form = {
        "full_legal_name": "Ada Lovelace",
        "ssn": "123-45-6789",
        "annual_income": {"units": 5_000_000, "asset": "USD"},
        "employment_status": "employed",
    }
    made = await client.post("/applications", json=form, headers=mine)
    assert made.status_code == 201, made.text
    assert made.json()["ssn"] == "••••6789"
    assert "123-45" not in made.text
    where = f"/applications/{made.json()['id']}/ssn"
    refused = await client.post(where, json={"reason": "curious"}, headers=ground["plain"])
    assert (refused.status_code, refused.json()["code"]) == (403, "TS-1404")
    opened = await client.post(where, json={"reason": "KYC case 91"}, headers=mine)
    assert opened.json() == {"value": "123-45-6789"}
    masked = await client.post("/applications", json={**form, "ssn": made.json()["ssn"]}, headers=mine)
    assert (masked.status_code, masked.json()["mistakes"][0]["where"]) == (422, "body.ssn")


async def test_a_stream_ends_and_a_request_id_reaches_the_log(ground: dict[str, Any], tally: Tallystick) -> None:
    client, mine = ground["client"], ground["mine"]
    lines = (await client.get("/loans/export", headers=mine)).text.splitlines()
    assert len(lines) == 3
    made = await client.post("/users", json={"first_name": "B"}, headers={**mine, "X-Request-ID": "req-77"})
    async with tally.session(ground["slugs"][0], actor="t", permissions=EVERYTHING) as db:
        (version,) = await db.users.history(UUID(made.json()["id"]))
        assert (version.request, version.actor) == ("req-77", "user:clerk")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/loans?limit=0", 422, "TS-1600"),
        ("/loans?after=beef", 422, "TS-1600"),
        ("/loans?status=asleep", 422, "TS-1600"),
        ("/loans?status=active&status=closed", 422, "TS-1600"),
        ("/loans?principal_from=five", 422, "TS-1600"),
        ("/loans?created_at_from=2026", 422, "TS-1600"),
        ("/loans?oldest_due=null", 422, "TS-1600"),
        ("/loans?fraud=null", 422, "TS-1600"),
        ("/loans?colour=red", 422, "TS-1600"),
        ("/loans/0197f3c2-1111-7000-8000-000000000000", 404, "TS-1100"),
        ("/loans/no-id", 422, "TS-1600"),
    ],
)
async def test_errors_are_problem_documents(ground: dict[str, Any], path: str, status: int, code: str) -> None:
    answer = await ground["client"].get(path, headers=ground["mine"])
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:tallystick:problem:{code}"
    assert body["title"]


async def test_who_proves_nothing_gets_nowhere(ground: dict[str, Any]) -> None:
    answer = await ground["client"].get("/loans")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_cancelled_request_leaves_nothing_open(ground: dict[str, Any], tally: Tallystick) -> None:
    app, started, ended = FastAPI(), asyncio.Event(), asyncio.Event()
    install(app, tally, tenant=lambda _: ground["slugs"][0], actor=lambda _: "t", permissions=lambda _: EVERYTHING)

    @app.post("/slow")
    async def slow(db: Db) -> None:
        try:
            async with db.transaction():
                await db.users.add(User(first_name="Nobody"))
                started.set()
                await asyncio.sleep(60)
        finally:
            ended.set()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        request = asyncio.create_task(client.post("/slow"))
        await asyncio.wait_for(started.wait(), 20)
        request.cancel()
        await asyncio.wait_for(ended.wait(), 20)
    async with tally.session(ground["slugs"][0], actor="t") as db:
        assert not [u for u in await db.users.find() if u.first_name == "Nobody"]
    assert tally.store.pool.stats().open - tally.store.pool.stats().idle <= 1


async def test_the_application_opens_and_closes_and_background_work_has_a_session(
    ground: dict[str, Any], tally: Tallystick
) -> None:
    tally_too = Tallystick(
        tally.settings, tally.domains, tally.entities, keys=tally.keys, clock=tally.clock, version_locations=()
    )
    app, seen = FastAPI(), []
    install(app, tally_too, tenant=lambda _: ground["slugs"][0], actor=lambda _: "t")

    @app.get("/later")
    async def later(request: Request, db: Db, tasks: BackgroundTasks, shown: int = 1) -> int:
        async def work() -> None:
            async with session_of(request) as own:
                seen.append(await own.loans.count())

        tasks.add_task(work)
        return await db.loans.count() * shown

    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/later?shown=2")).json() == 6
    assert seen == [3]
    with pytest.raises(Exception, match="not open"):
        _ = tally_too.store


async def test_other_parameters_are_known_and_a_routers_own_too(ground: dict[str, Any], tally: Tallystick) -> None:
    app = FastAPI()
    install(app, tally, tenant=lambda _: ground["slugs"][0], actor=lambda _: "t")

    def traced(trace: int = 0) -> None:
        return None

    router = APIRouter(route_class=app.router.route_class)

    @router.get("/count")
    async def count(db: Db, shown: bool = True, where: Loan.Filter = Query()) -> int:
        return await db.loans.count(where)

    app.include_router(router, dependencies=[Depends(traced)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/count?shown=1&trace=3&status=active")).json() == 3
        assert (await client.get("/count?shown=1&trace=3&stat=active")).status_code == 422


def test_declarations_that_would_go_wrong_are_refused(tally: Tallystick) -> None:
    app = FastAPI()
    install(app, tally, tenant=lambda _: "x", actor=lambda _: "t")
    with pytest.raises(Declaration, match="whole User"):

        @app.post("/users")
        async def add(db: Db, user: User) -> None: ...

    with pytest.raises(Declaration, match="read twice"):

        @app.get("/both")
        async def both(db: Db, where: Loan.Filter = Query(), who: User.Filter = Query()) -> None: ...

    with pytest.raises(Declaration, match="query string"):

        @APIRouter().get("/loans")
        async def loans(db: Db, where: Loan.Filter = Query()) -> None: ...


def test_pydantic_models_may_hold_ours() -> None:
    class Summary(BaseModel):
        total: Money
        who: Ref[User]
        loan: Visit | None = None

    read = Summary.model_validate({"total": {"units": 5, "asset": "USD"}, "who": {"id": str(uuid4())}})
    assert read.total == Money(5, "USD")
    shown = Summary(total=usd("1"), who=read.who, loan=Visit(borrower=read.who, national_id=secret("1"), fee=usd("2")))
    assert shown.model_dump(mode="json")["loan"]["national_id"] == "••••"
    assert Summary.model_json_schema()["properties"]["total"] == {"$ref": "#/$defs/Money"}
    with pytest.raises(ValidationError) as caught:
        Summary.model_validate({"total": {"units": "77777", "asset": "USD"}, "who": read.who})
    assert "77777" not in caught.value.errors()[0]["msg"]
