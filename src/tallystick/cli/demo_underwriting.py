"""The demo's story of underwriting: 16 at one application, 16 devices, and a monitor that sees a difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallystick.cli.demo_tries import WORKERS, Tries, at_once, won

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.identity.users import User
    from tallystick.domains.underwriting.applications import Application
    from tallystick.domains.underwriting.decisions import Decision, Outcome
    from tallystick.domains.underwriting.fairness_metrics import GroupOutcome
    from tallystick.session import Session

TASKS = 5
_NORTH, _SOUTH, _MORE = (30, 40), (18, 40), (38, 40)
"""How many of how many are approved: in two branches, and in the south once somebody has looked into it."""


@dataclass(slots=True, kw_only=True)
class Desk(Tries):
    """What the story shows; all of it was read from the database."""

    branches: list[tuple[str, list[GroupOutcome]]] = field(default_factory=list)


async def underwrite(tally: Tallystick, slug: str) -> Desk:
    """One task, one final decision, one answer to an offer, each task on one device, one flag that is closed again."""
    story = Desk()
    async with tally.session(slug, actor="demo", permissions=["*"]) as db:
        people = await _people(db)
        await _review(tally, db, story, slug, people)
        await _offer(tally, db, story, slug)
        await _devices(tally, db, story, slug)
        await _monitor(tally, db, story, slug)
    return story


async def _people(db: Session) -> list[User]:
    """Ada, who works here too and asks for a loan, and sixteen who may look at it."""
    from tallystick.domains.identity.users import User, UserRole, UserStatus

    made = [
        User(first_name=f"Reviewer {n}" if n else "Ada", role=UserRole.REVIEWER, status=UserStatus.ACTIVE)
        for n in range(WORKERS + 1)
    ]
    return await db.users.add_many(made)


async def _scored(db: Session, applicant: User | None = None) -> Application:
    """An application that waits for a decision."""
    from tallystick.domains.identity.profiles import EmploymentStatus
    from tallystick.domains.underwriting.applications import Application, ApplicationStatus
    from tallystick.money import usd
    from tallystick.privacy.sealed import secret

    made = await db.applications.submit(
        Application(
            applicant=None if applicant is None else applicant.ref,
            full_legal_name="Ada Okafor",
            ssn=secret("666-01-0001"),
            annual_income=usd("30000"),
            employment_status=EmploymentStatus.EMPLOYED,
            requested_amount=usd("9000"),
            requested_months=24,
        )
    )
    for status in (ApplicationStatus.VERIFYING, ApplicationStatus.SCORING):
        await db.applications.move([made.id], status)
    return await db.applications.get(made.id)


def _decision(application: Application, outcome: Outcome, **given: Any) -> Decision:
    from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
    from tallystick.domains.underwriting.reasons import ReasonCode

    fields: dict[str, Any] = {"kind": DecisionKind.POLICY, "is_final": outcome in (Outcome.APPROVED, Outcome.DECLINED)}
    if outcome is Outcome.DECLINED:
        fields["reasons"] = [ReasonCode.OBLIGATIONS_EXCESSIVE]
    return Decision(application=application.ref, outcome=outcome, **(fields | given))


async def _review(tally: Tallystick, db: Session, story: Desk, slug: str, people: list[User]) -> None:
    from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome

    application = await _scored(db, people[0])
    unexplained: dict[str, Any] = {"base_value": Decimal(500), "output_value": Decimal(470), "shap": {"income": "-20"}}
    score = _decision(application, Outcome.REVIEW, kind=DecisionKind.MODEL, model_version="demo-1", **unexplained)
    await story.refused(
        "a score of 470 from 500, explained by -20", lambda: db.applications.decide(application.id, score)
    )
    task = await db.reviews.open(application.id, "Income and loan do not fit together.")
    await story.refused("the applicant takes their own review", lambda: db.reviews.take(task, people[0]))

    async def take(s: Session, n: int) -> Any:
        return await s.reviews.take(task, people[n + 1])

    held = won(await at_once(tally, slug, take))
    holders = {t.claimed_by.id for t in held if t.claimed_by is not None}
    answer = f"{len(held)} has it, for half an hour"
    story.tell(f"{WORKERS} reviewers take one review", answer, len(held) == len(holders) == 1)
    silent = _decision(application, Outcome.DECLINED, reasons=None)
    await story.refused("decline without saying why", lambda: db.applications.decide(application.id, silent))

    async def decide(s: Session, n: int) -> Any:
        outcome = Outcome.DECLINED if n % 2 else Outcome.APPROVED
        return await s.applications.decide(application.id, _decision(application, outcome))

    done = won(await at_once(tally, slug, decide))
    final = [d for d in await db.decisions.find(Decision.application == application.ref) if d.is_final]
    good = len(done) == len(final) == 1
    said = final[0].outcome.value if final else "none"
    tried = f"{WORKERS} decide at once, half of them against"
    story.tell(tried, f"{len(final)} final decision: {said}; {WORKERS - len(done)} came too late", good)
    await _notice(db, story)


async def _notice(db: Session, story: Desk) -> None:
    from tallystick.domains.underwriting.decisions import Outcome
    from tallystick.domains.underwriting.notices import AdverseActionNotice

    other = await _scored(db)
    await db.applications.decide(other.id, _decision(other, Outcome.DECLINED))
    notices = await db.notices.find(AdverseActionNotice.application == other.ref)
    good = len(notices) == 1 and notices[0].due_on == db.today() + timedelta(days=30)
    due = notices[0].due_on if notices else "never"
    story.tell("decline another, with a reason", f"{len(notices)} notice to the applicant, due by {due}", good)


async def _offer(tally: Tallystick, db: Session, story: Desk, slug: str) -> None:
    from tallystick.domains.underwriting.decisions import Outcome
    from tallystick.money import usd

    application = await _scored(db)
    await db.reviews.open(application.id, "Too much for the income.")
    less = _decision(application, Outcome.COUNTER_OFFER)
    offer = await db.counter_offers.offer(less, usd("5000"), 24, rate=Decimal("0.145"))

    async def answer(s: Session, n: int) -> Any:
        return await (s.counter_offers.withdraw(offer) if n % 2 else s.counter_offers.accept(offer))

    answers = won(await at_once(tally, slug, answer))
    state = (await db.counter_offers.get(offer.id)).state.value
    stands = (await db.applications.get(application.id)).status.value
    story.tell(
        f"{WORKERS} answers to one counter-offer, half are no",
        f"{len(answers)} counts: offer and application are {stands}",
        len(answers) == 1 and state == stands,
    )


async def _devices(tally: Tallystick, db: Session, story: Desk, slug: str) -> None:
    from tallystick.domains.underwriting.devices import Device

    pads = []
    for n in range(WORKERS):
        pad = Device(external_id=f"demo-{n}", device_type="android tablet", region="eu-west")
        pads.append(await db.devices.heartbeat(await db.devices.provision(pad), {"battery_level": Decimal(80)}))
    for n in range(TASKS):
        await db.device_tasks.enqueue(f"demo task {n + 1}")

    async def take(s: Session, n: int) -> Any:
        return await s.device_tasks.take(pads[n])

    taken = won(await at_once(tally, slug, take))
    once = len({t.id for t in taken})
    answer = f"{once} devices work, no task on two"
    story.tell(f"{WORKERS} devices ask for {TASKS} tasks", answer, len(taken) == once == TASKS)

    async def finish(s: Session, _: int) -> Any:
        return await s.device_tasks.finish(taken[0])

    ended = won(await at_once(tally, slug, finish))
    device = taken[0].device
    done = 0 if device is None else (await db.devices.get(device.id)).tasks_done
    story.tell(f"{WORKERS} reports that one task is done", f"{done} is counted", len(ended) == done == 1)


async def _monitor(tally: Tallystick, db: Session, story: Desk, slug: str) -> None:
    from tallystick.domains.underwriting.fairness import BiasFlag, FlagState

    await _decided(db, "north", _NORTH)
    await _decided(db, "south", _SOUTH)
    story.branches.append(("before", await db.fairness.groups("branch")))

    async def look(s: Session, _: int) -> Any:
        return (await s.fairness.monitor("branch")).opened

    opened = [flag for flags in await at_once(tally, slug, look) for flag in flags]
    flags = await db.fairness.find(BiasFlag.attribute == "branch")
    good = [f.group_label for f in flags] == ["south"] and len(opened) == 1
    story.tell(f"{WORKERS} monitors compare two branches", f"{len(flags)} flag, on the south: {_said(story, 0)}", good)
    even = BiasFlag(
        attribute="branch",
        group_label="east",
        reference_label="north",
        decided=40,
        selected=24,
        reference_decided=40,
        reference_selected=30,
    )
    await story.refused("a flag at exactly four fifths, by hand", lambda: db.fairness.add(even))
    await _decided(db, "south", _MORE)
    story.branches.append(("after", await db.fairness.groups("branch")))
    closed = (await db.fairness.monitor("branch")).closed
    state = closed[0].state if closed else flags[0].state
    tried = f"{_MORE[0]} of {_MORE[1]} more are approved in the south"
    story.tell(tried, f"the flag is {state.value}: {_said(story, 1)}", state is FlagState.MITIGATED)


def _said(story: Desk, when: int) -> str:
    """The two branches in one line."""
    north, south = story.branches[when][1]
    assert south.rate is not None
    assert north.rate is not None
    counted = f"{south.selected} of {south.total} to {north.selected} of {north.total}"
    return f"{counted} is {float(south.rate / north.rate):.2f}"


async def _decided(db: Session, branch: str, part: tuple[int, int]) -> None:
    """So many applications at a branch, so many of them approved."""
    from tallystick.domains.identity.profiles import EmploymentStatus
    from tallystick.domains.underwriting.applications import Application, ApplicationStatus
    from tallystick.domains.underwriting.boarding import Boarded, board
    from tallystick.domains.underwriting.decisions import Outcome
    from tallystick.money import usd
    from tallystick.privacy.sealed import secret

    given = []
    for n in range(part[1]):
        one = Application(
            full_legal_name=f"Made-up {n:04}",
            ssn=secret(f"666-02-{n:04}"),
            annual_income=usd("20000"),
            employment_status=EmploymentStatus.EMPLOYED,
            monitoring={"branch": branch},
            decided_at=db.now(),
        )
        outcome = Outcome.APPROVED if n < part[0] else Outcome.DECLINED
        status = ApplicationStatus(outcome.value)
        given.append(Boarded(application=one, status=status, decisions=(_decision(one, outcome),)))
    await board(db, given)


def document(story: Desk) -> dict[str, Any]:
    """The story for programs."""
    return {
        "told": story.document(),
        "branches": [
            {"when": when, "branch": g.group, "decided": g.total, "approved": g.selected}
            for when, groups in story.branches
            for g in groups
        ],
        "held": story.held,
    }


def show(out: Output, story: Desk) -> None:
    """The story for people."""
    story.show(out)
