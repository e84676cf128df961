"""A Django site: sessions of requests, errors as problem documents, threads, ASGI, and ``manage.py tallystick``."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tallystick import User, UserStatus, usd
from tallystick import sync as facade
from tallystick.ids import uuid7
from tallystick.testing.factories import Make

django = pytest.importorskip("django")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.adoption.apps.django_site.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.test import AsyncClient, Client, override_settings  # noqa: E402

from tallystick.web.django import close, get_tally  # noqa: E402


@pytest.fixture(scope="module")
def site(tally: Any) -> Iterator[facade.Tallystick]:
    from django.conf import settings

    options = {"settings": tally.settings, "entities": tally.entities, "keys": tally.keys}
    with override_settings(TALLYSTICK={**settings.TALLYSTICK, "OPEN": options}):
        yield get_tally()
        close()


@pytest.fixture
def house(site: facade.Tallystick) -> str:
    slug = f"site-{uuid4().hex}"
    site.tenants.create(slug, name="A house")
    return slug


@pytest.fixture
def client(house: str) -> Client:
    return Client(headers={"X-Test-Tenant": house}, raise_request_exception=False)


def send(client: Client, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json", headers=headers)


def test_a_request_has_one_session_of_its_tenant(client: Client, site: facade.Tallystick, house: str) -> None:
    made = [send(client, "/people", {"first_name": f"P{n}"}).json()["id"] for n in range(3)]
    first = client.get("/people").json()
    rest = client.get("/people", {"after": first["next"]}).json()
    assert (*first["items"], *rest["items"]) == tuple(reversed(made))
    assert client.get(f"/people/{made[0]}").json() == {"id": made[0], "status": "pending"}
    other = f"other-{uuid4().hex}"
    site.tenants.create(other, name="Another house")
    assert client.get(f"/people/{made[0]}", headers={"X-Test-Tenant": other}).status_code == 404
    with site.session(house, actor="audit", permissions=["*"]) as db:
        assert {u.created_by for u in db.users.find()} == {"user:42"}


def test_errors_are_problem_documents_without_values(client: Client) -> None:
    missing = client.get(f"/people/{uuid7()}")
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/problem+json")
    assert missing.json()["code"] == "TS-1100"
    unread = send(client, "/people", {"first_name": "Ada", "shoe_size": "canary-38"})
    assert unread.status_code == 422
    assert "canary" not in unread.text
    forged = client.get("/people", {"after": "canary"})
    assert (forged.status_code, forged.json()["field"]) == (422, "after")
    assert client.get("/people", headers={"X-Test-Tenant": "nobody-here"}).status_code == 404


def test_what_a_view_fails_at_is_undone(client: Client, site: facade.Tallystick, house: str) -> None:
    assert client.get("/bug").status_code == 500
    with site.session(house, actor="audit", permissions=["*"]) as db:
        assert db.users.count() == 0
    assert site.metrics().pool.active == 0


def test_a_payment_that_is_sent_twice_counts_once(client: Client, site: facade.Tallystick, house: str) -> None:
    loan = _loan(site, house)
    answers = [send(client, f"/loans/{loan}/payments", {"amount": "10"}, **{"Idempotency-Key": "p1"}) for _ in "12"]
    assert [(a.status_code, a.json()["replayed"]) for a in answers] == [(201, False), (200, True)]
    with site.session(house, actor="audit", permissions=["*"]) as db:
        assert db.loans.get(loan).principal_outstanding == usd("90")


def _loan(site: facade.Tallystick, house: str) -> Any:
    """A loan of 100; the kit's recipes are coroutines, which the tally's own loop can run."""
    with site.session(house, actor="maker", permissions=["*"]) as db:
        borrower = db.users.add(User(status=UserStatus.ACTIVE))
        made = site._portal.run(Make(db._target, seed="site").active_loan(outstanding=usd("100"), borrower=borrower))
        return made.id


def test_tallystick_is_told_when_django_has_committed(client: Client, site: facade.Tallystick, house: str) -> None:
    assert send(client, "/signups", {"first_name": "Ada"}).status_code == 201
    assert send(client, "/signups", {"first_name": "Nobody"}).status_code == 422
    with site.session(house, actor="audit", permissions=["*"]) as db:
        assert [u.first_name for u in db.users.find()] == ["Ada"]


def test_threads_of_a_server_share_one_tally(client: Client, house: str) -> None:
    def visit(number: int) -> int:
        own = Client(headers={"X-Test-Tenant": house})
        return send(own, "/people", {"first_name": f"P{number}"}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(visit, range(40))) == {201}


async def test_asgi(client: Client, site: facade.Tallystick, house: str) -> None:
    """A plain view runs in a thread there; one that awaits has a session of the event loop."""

    visitor, headers = AsyncClient(), {"X-Test-Tenant": house}
    body = json.dumps({"first_name": "Ada"})
    posted = await visitor.post("/people", body, content_type="application/json", headers=headers)
    id = posted.json()["id"]
    assert (await visitor.get(f"/people/{id}", headers=headers)).json()["id"] == id
    assert (await visitor.get(f"/people/{id}/later", headers=headers)).json()["id"] == id
    missing = await visitor.get(f"/people/{uuid7()}/later", headers=headers)
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/problem+json")
    await _end_here()


def test_an_awaiting_view_under_wsgi_leaves_no_connection(client: Client, site: facade.Tallystick) -> None:
    """Django gives each such request an event loop of its own there, which ends with the request."""
    from tallystick.web.django import site as parts

    id = send(client, "/people", {"first_name": "Ada"}).json()["id"]
    before = _open_connections(site)
    for _ in range(3):
        assert client.get(f"/people/{id}/later").json()["id"] == id
    assert not parts._loops
    # The server hears of a connection's end a moment later.
    patience = time.monotonic() + 30
    while (left := _open_connections(site)) != before and time.monotonic() < patience:
        time.sleep(0.02)
    assert left == before


async def _end_here() -> None:
    """As the end of the running loop would."""
    from tallystick.web.django import site as parts

    own = parts._loops[asyncio.get_running_loop()]
    assert own.end is not None
    await own.end.aclose()


def _open_connections(site: facade.Tallystick) -> int:
    # Of this database alone: on others of the server other workers come and go.
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
        "AND application_name = 'tallystick'"
    )
    return int(site._portal.run(site._app.store.system_row(query))[0])


async def test_first_requests_that_come_together_share_the_loops_tally(
    site: facade.Tallystick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallystick import Tallystick, Unavailable
    from tallystick.web.django import site as parts

    start, fails = Tallystick.start, [True]

    async def first_in_vain(self: Tallystick) -> None:
        await asyncio.sleep(0.01)
        if fails and fails.pop():
            raise Unavailable("The server is not up yet.")
        await start(self)

    monkeypatch.setattr(Tallystick, "start", first_in_vain)
    with pytest.raises(Unavailable):
        await parts.async_tally()
    tallies = await asyncio.gather(*(parts.async_tally() for _ in range(3)))
    assert len({id(t) for t in tallies}) == 1
    assert all(t.store for t in tallies)
    await _end_here()
    assert not parts._loops


def test_manage_py_hands_its_line_on(site: facade.Tallystick, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("tallystick", "tenants", "--json")
    assert "site-" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("tallystick", "no-such-command")
