"""The sweep: it explains itself, goes by batches, passes over who is held, and is run again where it stopped."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.privacy.rights import Letter, application, notice, person

from tallystick import AdverseActionNotice, Conflict, Erased, Invalid, LegalBasis, Purpose, User, UserStatus
from tallystick.domains.rights import retention
from tallystick.session import Session


class Later:
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


async def readers(office: Session, count: int) -> list[User]:
    made = [await office.users.add(User(first_name=f"P{i}")) for i in range(count)]
    await office[Letter].add_many([Letter(author=u.ref, about="my loan", leaflet="buy!") for u in made])
    return made


async def test_what_was_not_touched_for_longer_than_its_maximum_goes(office: Session, monkeypatch: pytest.MonkeyPatch):
    people = await readers(office, 5)
    await office.privacy.hold(people[0], matter="2026-1")
    assert await office.privacy.explain() == []
    # The shipped example for marketing says 24 months at most, and for lending says nothing.
    monkeypatch.setattr(office._app, "clock", Later(office.now() + timedelta(days=740)))
    lines = {line.action: line for line in await office.privacy.explain()}
    assert (lines["erase"].data_class, lines["erase"].persons, lines["erase"].entities) == ("marketing", 4, ("Letter",))
    assert "24 months" in lines["erase"].why
    assert (lines["keep"].persons, lines["keep"].why) == (1, "past its maximum, and held")
    # Nothing was changed by asking.
    assert sum(x.leaflet is not None for x in await office[Letter].find()) == 5

    sweeping = office.privacy.sweep(batch=2)
    first = await anext(sweeping)
    assert first.persons + first.held == 2
    await sweeping.aclose()  # type: ignore[attr-defined]
    batches = [b async for b in office.privacy.sweep(batch=2)]
    assert first.persons + sum(b.persons for b in batches) == 4
    left = [x for x in await office[Letter].find() if x.leaflet is not None]
    assert [x.author.id for x in left] == [people[0].id]
    assert all(x.about == "my loan" for x in await office[Letter].find())
    assert len(office.sealer.keyring().provider.erasures(office.tenant_id)) == 4
    assert [line.action for line in await office.privacy.explain()] == ["keep"]


async def test_a_class_on_hold_and_one_that_is_used_stay(office: Session, monkeypatch: pytest.MonkeyPatch):
    await readers(office, 2)
    for hold in (True, False):
        await office.privacy.set_policy(
            "marketing", basis=LegalBasis.CONSENT, reason="two years", maximum_months=24, hold=hold
        )
        monkeypatch.setattr(office._app, "clock", Later(office.now() + timedelta(days=740 if hold else 0)))
        lines = await office.privacy.explain()
        assert [line.action for line in lines] == (["keep"] if hold else ["erase"])
        if hold:
            assert [b async for b in office.privacy.sweep()] == []
    assert sum([b.persons async for b in office.privacy.sweep()]) == 2


async def test_what_is_explained_is_what_is_done(office: Session, monkeypatch: pytest.MonkeyPatch):
    async def decide(minimum: int, *, hold: bool = False) -> None:
        await office.privacy.set_policy(
            "lending",
            basis=LegalBasis.CONTRACT,
            reason="as decided",
            citation="a law",
            minimum_months=minimum,
            hold=hold,
        )

    people = await readers(office, 4)
    for user in people[:2]:
        await office.privacy.erase(await office.privacy.request_erasure(user))
    # Kept without an end while the class is held, and with one later than it turns out to be.
    await decide(0, hold=True)
    await office.privacy.erase(await office.privacy.request_erasure(people[2]))
    await decide(1200)
    await office.privacy.erase(await office.privacy.request_erasure(people[3]))
    await office.privacy.hold(people[0], matter="2026-1")
    await decide(12)
    lines = await office.privacy.explain()
    assert [(x.action, x.data_class, x.persons) for x in lines] == [("keep", "lending", 4)]
    clock = Later(office.now() + timedelta(days=380))
    monkeypatch.setattr(office._app, "clock", clock)
    lines = await office.privacy.explain()
    assert [(x.action, x.data_class, x.persons) for x in lines] == [("erase", "lending", 3), ("keep", "lending", 1)]
    # What is at its maximum besides is the same persons, once.
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="as decided", maximum_months=1)
    lines = await office.privacy.explain()
    assert sum(x.persons for x in lines if x.action == "erase") == 3
    batches = [b async for b in office.privacy.sweep(batch=2)]
    assert sum(b.persons for b in batches) == 3
    assert [x.author.id for x in await office[Letter].find() if x.about == "my loan"] == [people[0].id]


async def test_what_is_told_about_who_is_held_stays(office: Session, monkeypatch: pytest.MonkeyPatch):
    for name in ("identity", "lending"):
        await office.privacy.set_policy(name, basis=LegalBasis.CONTRACT, reason="as decided", maximum_months=1)
    people = [await person(office), await person(office, "Bob")]
    told = [await notice(office, await application(office, user)) for user in people]
    await office.privacy.hold(people[0], matter="2026-1")
    await office.consents.grant(people[1], Purpose.MARKETING, policy_version="1")
    taken, closed = retention.take, set[UUID]()

    async def take(db: Session, subject: UUID) -> list[UUID]:
        # Whoever is behind the gate has ended before rows and keys are taken, which they may be about to write with.
        try:
            async with office._app.session(office.tenant, actor="t") as other, other.transaction():
                await other.consents._current(subject, Purpose.MARKETING, "exclusive or refuse")
        except Conflict:
            closed.add(subject)
        return await taken(db, subject)

    monkeypatch.setattr(retention, "take", take)
    monkeypatch.setattr(office._app, "clock", Later(office.now() + timedelta(days=70)))
    lines = await office.privacy.explain()
    assert [(x.action, x.persons) for x in lines] == [("erase", 1), ("keep", 1)] * 2
    assert sum([b.persons async for b in office.privacy.sweep(batch=1)]) == 2
    # An account of which nobody knows any more whose it was is an erased one.
    left = [(await office.users.get(u.id)).status is UserStatus.ERASED for u in people]
    assert left == [False, True]
    assert closed == {people[1].id}
    score = AdverseActionNotice.credit_score
    assert await office[AdverseActionNotice].reveal(told[0].id, score, reason="a test") == 617
    with pytest.raises(Erased):
        await office[AdverseActionNotice].reveal(told[1].id, score, reason="a test")


async def test_what_is_touched_or_held_while_the_sweep_runs_stays(office: Session, monkeypatch: pytest.MonkeyPatch):
    await readers(office, 1)
    clock, taken = office._app.clock, retention.take
    much_later = Later(office.now() + timedelta(days=740))

    async def touched(*args: Any) -> Any:
        # As if it had been, after the batch was read.
        monkeypatch.setattr(office._app, "clock", clock)
        return await taken(*args)

    async def put_on_hold(db: Session, *args: Any) -> Any:
        await db.privacy.set_policy(
            "marketing", basis=LegalBasis.CONSENT, reason="a claim", maximum_months=24, hold=True
        )
        return await taken(db, *args)

    for meanwhile in (touched, put_on_hold):
        monkeypatch.setattr(office._app, "clock", much_later)
        monkeypatch.setattr(retention, "take", meanwhile)
        assert [(b.persons, b.keys) async for b in office.privacy.sweep()] == [(0, 0)]
    assert [x.leaflet for x in await office[Letter].find()] == ["buy!"]
    assert office.sealer.keyring().provider.erasures(office.tenant_id) == []


async def test_policies_are_judged(office: Session):
    for bad in (
        {"minimum_months": -1, "citation": "x"},
        {"minimum_months": 12, "maximum_months": 6, "citation": "x"},
        {"maximum_months": 0},
        {"minimum_months": 12},
        {"reason": ""},
        {"data_class": "lendign"},
    ):
        with pytest.raises(Invalid):
            given = {"data_class": "lending", "basis": LegalBasis.CONTRACT, "reason": "as decided"} | bad
            await office.privacy.set_policy(**given)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await office.privacy.set_policy("No Class", basis=LegalBasis.CONTRACT, reason="as decided")
    with pytest.raises(Invalid):
        [b async for b in office.privacy.sweep(batch=0)]
    found = await office.privacy.policies()
    assert found["lending"].example
    assert found["lending"].citation == "Regulation B, 12 CFR 1002.12(b)(1)"
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="as decided")
    assert not (await office.privacy.policies())["lending"].example
    # A maximum on what holds no keys is said to do nothing.
    await office.privacy.set_policy("scoring", basis=LegalBasis.CONSENT, reason="as decided", maximum_months=1)
    (line,) = await office.privacy.explain()
    assert (line.action, line.data_class, line.persons) == ("keep", "scoring", 0)
    ada = await person(office)
    assert (await office.privacy.erase(await office.privacy.request_erasure(ada))).kept == ()
