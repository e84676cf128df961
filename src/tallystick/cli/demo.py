"""``demo``: the main job in a few seconds, on a server of its own that is gone afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.demo_audit import Audited
    from tallystick.cli.demo_circles import Circles
    from tallystick.cli.demo_lending import Lending
    from tallystick.cli.demo_privacy import Forgotten
    from tallystick.cli.demo_reputation import Reputed
    from tallystick.cli.demo_underwriting import Desk
    from tallystick.cli.demo_vaults import Guarded
    from tallystick.cli.demo_wall import Crossing
    from tallystick.domains.underwriting.applications import Application
    from tallystick.domains.underwriting.statistics import Comparison, GroupRate, Statistics
    from tallystick.page import Page

_OWN, _OTHER = "sunrise", "harbour"
_PAGE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done, and how long it took in seconds."""

    done: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Story:
    """Everything the demo shows; all of it was read from the database."""

    source: str
    steps: list[Step] = field(default_factory=list)
    page: Page[Application] | None = None
    risks: dict[str, int | None] = field(default_factory=dict)
    statistics: list[tuple[str, Statistics]] = field(default_factory=list)
    fairness: list[tuple[str, list[GroupRate], list[Comparison]]] = field(default_factory=list)
    desk: Desk | None = None
    lending: Lending | None = None
    circles: Circles | None = None
    reputation: Reputed | None = None
    vaults: Guarded | None = None
    forgotten: Forgotten | None = None
    crossings: list[Crossing] = field(default_factory=list)
    seconds: float = 0
    kept: str | None = None
    audited: Audited | None = None

    @property
    def proven(self) -> bool:
        """Whether the audit verified what was right, and found what was not."""
        return self.audited is not None and self.audited.held

    @property
    def walled(self) -> bool:
        """Whether every attempt to cross the wall was stopped."""
        return bool(self.crossings) and all(c.stopped for c in self.crossings)

    @property
    def held(self) -> bool:
        """Whether the wall stood, the money was right, and every story came as it should."""
        stories = (self.desk, self.lending, self.circles, self.reputation, self.vaults, self.forgotten)
        return self.walled and all(one is not None and one.held for one in stories)


async def demo(
    run: Run,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Use the real German credit file in this folder.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server's directory, and say where.")] = False,
) -> Answer:
    """Start a server, migrate, tell a story of each system with the race it survives, and try to cross the wall.

    Runs on an embedded PostgreSQL in a temporary directory, whatever DATABASE_URL says. Exit code 1: an attempt to
    cross the wall worked, the money was not right, a race was lost, or the audit did not find what was changed.
    """
    from tallystick.cli.demo_view import document, show
    from tallystick.domains.underwriting.german_credit import find

    file = None if data is None else find(data)
    started = time.perf_counter()
    story = Story(source="generated" if file is None else f"German credit data ({file.name})")
    async with _server(story, keep=keep) as tally:
        await _work(run, tally, story, file)
    story.seconds = time.perf_counter() - started
    fine = story.held and story.proven
    return Answer(document(story), lambda out: show(out, story), exits.OK if fine else exits.FINDINGS)


@asynccontextmanager
async def _server(story: Story, *, keep: bool) -> AsyncIterator[Tallystick]:
    """An application on a server in a temporary directory, which goes with it unless it is kept."""
    import tempfile

    from tallystick.app import Tallystick
    from tallystick.settings import Settings
    from tallystick.stores.embedded.server import EmbeddedServer

    started = time.perf_counter()
    if keep:
        place = tempfile.mkdtemp(prefix="tallystick-demo-")
        # The server's account has to pass through; what is inside has modes of its own.
        os.chmod(place, 0o711)  # noqa: S103
        server = await EmbeddedServer.start(Path(place))
        story.kept = place
    else:
        server = await EmbeddedServer.start(temporary=True)
    try:
        # An empty environment: nothing that is set for a real database reaches the demo.
        settings = Settings.load({}, database_url=None, data_dir=server.data_dir)
        async with Tallystick.open(settings=settings) as tally:
            row = await tally.store.system_row("SELECT current_setting('server_version')")
            where = "a directory that is kept" if keep else "a temporary directory"
            _step(story, f"PostgreSQL {row[0]} started in {where}", started)
            yield tally
    finally:
        await server.stop()


async def _work(run: Run, tally: Tallystick, story: Story, file: Path | None) -> None:
    from tallystick.cli import demo_circles, demo_privacy, demo_reputation, demo_underwriting, demo_vaults
    from tallystick.cli.demo_lending import lend
    from tallystick.cli.demo_tries import WORKERS
    from tallystick.cli.demo_wall import cross

    out = run.output
    started = time.perf_counter()
    with out.progress("Migrating"):
        await tally.migrate()
    walled = await tally.store.system_row(
        "SELECT count(*), count(*) FILTER (WHERE c.relrowsecurity AND c.relforcerowsecurity) "
        "FROM pg_catalog.pg_class c WHERE c.relnamespace = 'tally'::regnamespace AND c.relkind IN ('r', 'p')"
    )
    _step(story, f"Migrated: {walled[0]} tenant tables, row-level security forced on {walled[1]}", started)
    await _fill(run, tally, story, file)
    for slug in (_OWN, _OTHER):
        async with tally.session(slug, actor="demo", permissions=()) as db:
            story.statistics.append((slug, await db.applications.statistics()))
    async with tally.session(_OWN, actor="demo", permissions=()) as db:
        await _look(db, story)
    started = time.perf_counter()
    with out.progress("Deciding"):
        story.desk = await demo_underwriting.underwrite(tally, _OWN)
    _step(story, f"Decided, offered and monitored, {WORKERS} at once each time", started)
    started = time.perf_counter()
    with out.progress("Lending"):
        story.lending = await lend(tally, _OWN)
    _step(story, f"Lent, and took one payment {story.lending.deliveries} times at once", started)
    started = time.perf_counter()
    with out.progress("Saving in a circle"):
        story.circles = await demo_circles.save(tally, _OWN)
    _step(story, f"Saved in a circle, each pot asked for by {demo_circles.WORKERS} workers at once", started)
    started = time.perf_counter()
    with out.progress("Scoring and proving"):
        story.reputation = await demo_reputation.repute(tally, _OWN)
    _step(story, f"Scored {demo_reputation.INPUTS} inputs by {WORKERS} workers at once", started)
    started = time.perf_counter()
    with out.progress("Guarding vaults"):
        story.vaults = await demo_vaults.guard(tally, _OWN)
    _step(
        story, f"Valued {demo_vaults.VAULTS} vaults, each price delivered {demo_vaults.WORKERS} times at once", started
    )
    with out.progress("Trying to cross the wall"):
        story.crossings = await cross(tally, _OWN, _OTHER)
    started = time.perf_counter()
    with out.progress("Forgetting"):
        story.forgotten = await demo_privacy.forget(tally, _OWN)
    _step(story, "Exported a person, held her, and erased her", started)
    await _audit(run, tally, story)


async def _audit(run: Run, tally: Tallystick, story: Story) -> None:
    from tallystick.cli.demo_audit import audit

    started = time.perf_counter()
    with run.output.progress("Sealing and verifying"):
        story.audited = await audit(tally, _OWN)
    _step(story, "Sealed every change, verified it offline, compared each row with it", started)


async def _fill(run: Run, tally: Tallystick, story: Story, file: Path | None) -> None:
    from tallystick.domains.underwriting import german_credit
    from tallystick.seeds import APPLICATIONS, plant
    from tallystick.seeds.applications import plant as plant_applications

    started = time.perf_counter()
    await plant(tally, "users")
    names = [slug async for _, slug, _ in tally.tenants.all()]
    _step(story, f"Tenants: {', '.join(names)}", started)
    started = time.perf_counter()
    with run.output.progress("Loading applications", sum(APPLICATIONS.values())) as tell:
        async with tally.session(_OWN, actor="demo", permissions=["*"]) as db:
            if file is None:
                await plant_applications(db, APPLICATIONS[_OWN], tell)
            else:
                await german_credit.load(db, file, tell)
            own = await db.applications.count()
        async with tally.session(_OTHER, actor="demo", permissions=["*"]) as db:
            await plant_applications(db, APPLICATIONS[_OTHER], tell)
            other = await db.applications.count()
    source = "" if file is None else f" of {file.name}"
    _step(story, f"Applications: {own:,}{source} for {_OWN}, {other:,} for {_OTHER}", started)


async def _look(db: Any, story: Story) -> None:
    """A page of decided applications with their risk, and how groups fared."""
    from tallystick.cli.report import highest
    from tallystick.domains.underwriting.applications import Application, ApplicationStatus
    from tallystick.domains.underwriting.decisions import Decision
    from tallystick.domains.underwriting.statistics import compare
    from tallystick.loading import backref
    from tallystick.query import desc, one_of

    decided = one_of(Application.status, [ApplicationStatus.APPROVED, ApplicationStatus.DECLINED])
    story.page = page = await db.applications.page(decided, order=desc(Application.decided_at), limit=_PAGE, count=True)
    decisions = await db.load(page.items, backref(Decision, Decision.application))
    for application in page.items:
        final = [d for d in decisions[application.id] if d.is_final]
        story.risks[str(application.id)] = final[0].risk_score if final else None
    for attribute in ("sex", "age_band"):
        rates = await db.applications.rates_by(attribute)
        compared = compare(rates, highest(rates)) if rates else []
        story.fairness.append((attribute, rates, compared))


def _step(story: Story, done: str, started: float) -> None:
    story.steps.append(Step(done=done, seconds=time.perf_counter() - started))
