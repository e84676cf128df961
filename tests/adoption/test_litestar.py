"""Litestar beside the data: the same back office, the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from tests.adoption.apps.backoffice import Tokens
from tests.adoption.apps.litestar_app import make_app

from tallystick import Declaration, Loan, Tallystick, User, usd
from tallystick.testing.factories import Make
from tallystick.testing.recipes import active_loan
from tallystick.web.litestar import Db, TallystickPlugin, filtered


@pytest.fixture(scope="module")
async def ground(tally: Tallystick) -> AsyncIterator[dict[str, Any]]:
    tokens, slug = Tokens(), f"lite-{uuid4().hex[:12]}"
    await tally.tenants.create(slug, name="A lender")
    async with tally.session(slug, actor="test", permissions=["*"]) as db:
        make = Make(db, seed="lite")
        loans = [await active_loan(make, outstanding=usd("100")) for _ in range(2)]
    mine = tokens.issue("one", slug, "user:clerk", "*")
    app = make_app(tally, tokens)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield {"client": client, "mine": mine, "loans": loans, "slug": slug}


async def test_a_page_is_filtered_and_leads_to_the_next(ground: dict[str, Any]) -> None:
    client, mine = ground["client"], ground["mine"]
    first = await client.get("/loans", params={"status_in": ["active", "closed"], "limit": 1}, headers=mine)
    assert first.status_code == 200, first.text
    link = first.headers["link"]
    second = await client.get(link[1 : link.index(">")], headers=mine)
    assert [len(first.json()["items"]), len(second.json()["items"])] == [1, 1]
    assert second.json()["items"][0]["principal"] == {"units": 10000, "asset": "USD"}


async def test_a_loan_is_repaid_once_and_a_user_is_guarded_by_its_version(ground: dict[str, Any]) -> None:
    client, mine, loan = ground["client"], ground["mine"], ground["loans"][0]
    body = {"amount": {"units": 1000, "asset": "USD"}}
    key = {**mine, "Idempotency-Key": "k1"}
    sent = [await client.post(f"/loans/{loan.id}/repayments", json=body, headers=key) for _ in range(2)]
    assert [(r.status_code, r.json()["replayed"]) for r in sent] == [(201, False), (201, True)]
    made = await client.post("/users", json={"first_name": "Ada"}, headers={**mine, "X-Request-ID": "req-78"})
    assert made.status_code == 201, made.text
    where = f"/users/{made.json()['id']}"
    tag = {"If-Match": (await client.get(where, headers=mine)).headers["etag"]}
    first = await client.patch(where, json={"first_name": "Augusta"}, headers={**mine, **tag})
    late = await client.patch(where, json={"first_name": "A."}, headers={**mine, **tag})
    assert (first.status_code, late.status_code, late.json()["code"]) == (200, 412, "TS-1201")


async def test_what_is_sealed_goes_out_masked_and_opens_for_a_reason(ground: dict[str, Any]) -> None:
    client, mine = ground["client"], ground["mine"]
    form = {
        "full_legal_name": "Ada Lovelace",
        "ssn": "123-45-6789",
        "annual_income": {"units": 5_000_000, "asset": "USD"},
        "employment_status": "employed",
    }
    made = await client.post("/applications", json=form, headers=mine)
    assert (made.status_code, made.json()["ssn"]) == (201, "••••6789")
    opened = await client.post(f"/applications/{made.json()['id']}/ssn", json={"reason": "KYC case 91"}, headers=mine)
    assert opened.json() == {"value": "123-45-6789"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/loans?limit=0", 422, "TS-1600"),
        ("/loans?after=beef", 422, "TS-1600"),
        ("/loans?status=asleep", 422, "TS-1600"),
        ("/loans?principal_from=five", 422, "TS-1600"),
        ("/loans?created_at_from=2026", 422, "TS-1600"),
        ("/loans?colour=red", 422, "TS-1600"),
        ("/loans/0197f3c2-1111-7000-8000-000000000000", 404, "TS-1100"),
    ],
)
async def test_errors_are_problem_documents(ground: dict[str, Any], path: str, status: int, code: str) -> None:
    answer = await ground["client"].get(path, headers=ground["mine"])
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (answer.json()["status"], answer.json()["code"]) == (status, code)


async def test_a_body_that_cannot_be_read_is_not_repeated(ground: dict[str, Any]) -> None:
    sent = {"full_legal_name": 12345678, "ssn": 987654321, "employment_status": "astronaut"}
    answer = await ground["client"].post("/applications", json=sent, headers=ground["mine"])
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert not [v for v in ("12345678", "987654321", "astronaut") if v in answer.text]
    nobody = await ground["client"].get("/loans")
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_application_opens_and_closes_and_other_parameters_are_known(
    ground: dict[str, Any], tally: Tallystick
) -> None:
    own = Tallystick(
        tally.settings, tally.domains, tally.entities, keys=tally.keys, clock=tally.clock, version_locations=()
    )

    @get("/count", dependencies={"where": filtered(Loan.Filter)})
    async def count(db: Db, where: NamedDependency[Loan.Filter], shown: FromQuery[int] = 1) -> int:
        return await db.loans.count(where) * shown

    app = Litestar([count], plugins=[TallystickPlugin(own, tenant=lambda _: ground["slug"], actor=lambda _: "t")])
    async with app.lifespan():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/count?shown=2&status=active")).json() == 4
            assert (await client.get("/count?shown=2&state=active")).status_code == 422
    with pytest.raises(Exception, match="not open"):
        _ = own.store


def test_a_whole_entity_is_no_body(tally: Tallystick) -> None:
    @post("/users")
    async def add(data: JSONBody[User]) -> None: ...

    with pytest.raises(Declaration, match="whole User"):
        Litestar([add], plugins=[TallystickPlugin(tally, tenant=lambda _: "x", actor=lambda _: "t")])
