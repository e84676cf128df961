"""States of an application's own on built-in state machines: the database judges them, and no way round is opened."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, cast

import asyncpg
import msgspec
import pytest
from tests.adoption.branches import FRAUD_CHECK, ON_LEAVE, BranchApplication, BranchUser, House
from tests.adoption.test_extension import declared

from tallystick import (
    Application,
    ApplicationStatus,
    EmploymentStatus,
    Loan,
    LoanStatus,
    Proof,
    Rules,
    Session,
    Statuses,
    User,
    UserStatus,
    added,
    one_of,
    secret,
    usd,
)
from tallystick.domains.identity.erasures import ErasureGround
from tallystick.domains.proofs.proofs import VerificationStatus
from tallystick.entity import spec_of
from tallystick.errors import Declaration, Invalid, InvalidTransition, RoleMissing, StaleVersion
from tallystick.web.schemas import components, parameters

_S, _A = UserStatus, ApplicationStatus


def test_an_added_state_is_one_value_of_the_enums_type_and_no_member_of_it():
    assert added(UserStatus, "on_leave") is ON_LEAVE
    assert isinstance(ON_LEAVE, UserStatus)
    assert (ON_LEAVE.value, str(ON_LEAVE)) == ("on_leave", "on_leave")
    assert ON_LEAVE not in list(UserStatus)
    assert copy.deepcopy(ON_LEAVE) is ON_LEAVE
    assert msgspec.json.encode(ON_LEAVE) == b'"on_leave"'
    assert ON_LEAVE not in {_S.ACTIVE, _S.CLOSED}
    with pytest.raises(ValueError, match="on_leave"):
        UserStatus("on_leave")


@pytest.mark.parametrize("value", ["active", "", "On Leave", "x" * 64, 5])
def test_what_is_no_new_state_is_refused(value: Any):
    with pytest.raises(Declaration):
        added(UserStatus, value)


def test_only_enums_gain_states():
    with pytest.raises(Declaration):
        added(cast("Any", str), "new")


async def test_a_user_goes_to_an_added_state_and_back_and_the_database_judges(db: Session):
    made = await db[BranchUser].add(BranchUser(email="leave@example.org", status=_S.ACTIVE))
    away = await db[BranchUser].update(made, status=ON_LEAVE)
    read = await db[BranchUser].get(made.id)
    assert read.status is ON_LEAVE
    assert [u.id for u in await db.users.find(BranchUser.status == ON_LEAVE)] == [made.id]
    assert [u.id for u in await db.users.find(one_of(User.status, [_S.ACTIVE]), User.id == made.id)] == []
    assert BranchUser.Filter.parse({"status": "on_leave", "status_in": "on_leave,active"}).conditions()
    with pytest.raises(Invalid):
        BranchUser.Filter.parse({"status": "asleep"})
    with pytest.raises(InvalidTransition):
        await db[BranchUser].update(away, status=_S.SUSPENDED)
    with pytest.raises(InvalidTransition):
        await db[BranchUser].add(BranchUser(status=ON_LEAVE))
    assert (await db[BranchUser].history(made.id))[-1].entity == read
    back = await db[BranchUser].update(away, status=_S.ACTIVE)
    assert back.status is _S.ACTIVE


def test_the_schema_of_a_response_and_of_a_filter_has_the_added_states():
    _, named = components(BranchUser)
    wanted = sorted([*(str(m) for m in _S), "on_leave"])
    assert named["BranchUser"]["properties"]["status"] == {"enum": wanted}
    assert "on_leave" not in str(components(User))
    (one,) = [p for p in parameters(BranchUser.Filter) if p["name"] == "status"]
    assert sorted(one["schema"]["enum"]) == wanted


async def test_who_is_in_an_added_state_may_do_nothing_and_can_be_erased(house: House, db: Session):
    made = await db[BranchUser].add(
        BranchUser(email="idle@example.org", status=_S.ACTIVE, permissions=["applications.review"])
    )
    async with house.tally.session(house.tenant, actor=f"user:{made.id}") as own:
        await own.require("applications.review")
    await db[BranchUser].update(made, status=ON_LEAVE)
    async with house.tally.session(house.tenant, actor=f"user:{made.id}") as own:
        with pytest.raises(RoleMissing):
            await own.require("applications.review")
    await db.privacy.erase(await db.privacy.request_erasure(made.id, ground=ErasureGround.CONSENT_WITHDRAWN))
    assert (await db.users.get(made.id)).status is _S.ERASED


async def test_a_process_without_the_extension_refuses_the_state_by_name(db: Session, plain: Session):
    made = await db[BranchUser].add(BranchUser(email="seen@example.org", status=_S.ACTIVE))
    await db[BranchUser].update(made, status=ON_LEAVE)
    with pytest.raises(Invalid, match="does not know"):
        await plain.users.get(made.id)
    other = await plain.users.add(User(status=_S.ACTIVE))
    for wrong in (ON_LEAVE, added(UserStatus, "elsewhere")):
        with pytest.raises(Invalid):
            await plain.users.update(other, status=wrong)
        with pytest.raises(Invalid):
            await plain.users.add(User(status=wrong))
        with pytest.raises(Invalid):
            await plain.users.find(User.status == wrong)
    with pytest.raises(Invalid):
        await db.users.add(User(status=added(UserStatus, "elsewhere")))


async def application(db: Session) -> Application:
    made = await db.applications.submit(
        Application(
            full_legal_name="Ada Lovelace",
            ssn=secret("078-05-1120"),
            annual_income=usd("50000"),
            employment_status=EmploymentStatus.EMPLOYED,
        )
    )
    return await db.applications.update(made, status=_A.VERIFYING)


async def test_an_application_stops_for_a_check_and_cannot_be_decided_from_there(house: House, db: Session):
    made = await application(db)
    assert isinstance(made, BranchApplication)
    checked = await db.applications.update(made, status=FRAUD_CHECK)
    async with house.tally.session(house.tenant, actor="clerk", permissions=()) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.applications.update(checked, status=_A.SCORING)
    for decided in (_A.APPROVED, _A.DECLINED):
        with pytest.raises(Invalid):
            await db.applications.update(checked, status=decided)
        # Nor by whoever goes round the library.
        with pytest.raises(asyncpg.PostgresError, match="no step from fraud_check"):
            await house.database.run(
                f"SET tally.tenant = '{db.tenant_id}'; SET tally.actor = 'x'; "
                f"UPDATE tally.application SET status = '{decided.value}' WHERE id = '{made.id}'",
                role="app",
            )
    withdrawn = await db.applications.update(checked, status=_A.WITHDRAWN)
    assert withdrawn.status is _A.WITHDRAWN


async def test_of_eight_callers_one_moves_it_on(house: House, db: Session):
    made = await db.applications.update(await application(db), status=FRAUD_CHECK)
    won = []

    async def move(number: int) -> None:
        async with house.tally.session(house.tenant, actor=f"job:{number}", permissions=("*",)) as mine:
            to = _A.SCORING if number % 2 else _A.VERIFYING
            try:
                won.append(await mine.applications.update(made, status=to))
            except (StaleVersion, InvalidTransition):
                return

    await asyncio.wait_for(asyncio.gather(*(move(n) for n in range(8))), 60)
    last = await db.applications.get(made.id)
    assert last.status in (_A.SCORING, _A.VERIFYING)
    assert [w.status for w in won] == [last.status]


PAUSED, AUDITED = added(UserStatus, "paused"), added(ApplicationStatus, "audited")
COLLECTED, DOUBTED = added(LoanStatus, "in_collection"), added(VerificationStatus, "doubted")


@pytest.mark.parametrize(
    ("base", "field", "steps", "says"),
    [
        (User, "status", {_S.PENDING: [PAUSED], PAUSED: [_S.SUSPENDED]}, "knows no way"),
        (User, "status", {_S.CLOSED: [PAUSED], PAUSED: [_S.ACTIVE]}, "knows no way"),
        (User, "status", {_S.SUSPENDED: [_S.LOCKED]}, "the domain's to allow"),
        (User, "status", {_S.ERASED: [PAUSED]}, "rules hang on"),
        (User, "role", {_S.ACTIVE: [PAUSED]}, "no state machine"),
        (User, "status", {_S.ACTIVE: [AUDITED]}, "another enum"),
        (Application, "status", {_A.VERIFYING: [AUDITED], AUDITED: [_A.APPROVED]}, "rules hang on"),
        (Application, "status", {_A.COUNTER_OFFERED: [AUDITED]}, "rules hang on"),
        (Application, "status", {_A.CREATED: [AUDITED], AUDITED: [_A.SUBMITTED]}, "rules hang on"),
        (Application, "status", {_A.VERIFYING: [AUDITED], AUDITED: [_A.REVIEW]}, "knows no way"),
        (Loan, "status", {LoanStatus.ACTIVE: [COLLECTED]}, "Declare a state of your own|no state machine|hang on"),
        (Proof, "status", {VerificationStatus.RECEIVED: [DOUBTED]}, "hang on"),
    ],
)
def test_states_that_would_open_a_way_are_refused(base: type[Any], field: str, steps: Any, says: str):
    with pytest.raises(Declaration, match=says) as caught:
        spec_of(declared(Rules(Statuses(field, steps), extends=base), base))
    assert caught.value.remedy


def test_new_states_may_follow_each_other_and_lead_to_what_every_state_may_become():
    waiting = added(UserStatus, "waiting")
    made = declared(
        Rules(Statuses("status", {_S.ACTIVE: [PAUSED], PAUSED: [waiting], waiting: [_S.LOCKED]}), extends=User)
    )
    machine = spec_of(made).transitions[0]
    assert machine.steps["paused"] == ("waiting", "erased")
    assert machine.steps["waiting"] == ("locked", "erased")
    assert machine.steps["active"] == ("suspended", "locked", "closed", "erased", "paused")
    assert spec_of(User).transitions[0].steps["active"] == ("suspended", "locked", "closed", "erased")
