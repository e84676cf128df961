"""The upgrade contract: this code runs on its own schema and on that of the release before.

Until there are two releases, the one before is played by this schema without the last revisions of three branches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.attacks.conftest import Ground
from tests.entities import ALL, Shelf

import tallystick
from tallystick import CustomField, Device, LoanProduct, NotMigrated, Tallystick, User
from tallystick.schema import branches, releases
from tallystick.schema.migrate import check_migrated, migrate, rollback
from tallystick.schema.releases import RELEASES, Release
from tallystick.testing import KitServer
from tallystick.testing.conformance import StoreConformance
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.factories import Make

HISTORY = branches.history()
HEADS = {b: HISTORY.heads(b)[0] for b in HISTORY.branches}
LATEST = ("identity", "underwriting", "vaults")
PLAYED = Release("0.0", {**HEADS, **{b: HISTORY.order(b)[-2] for b in LATEST}})
BEFORE = releases.previous() or PLAYED
CORE: Any = StoreConformance if "TALLYSTICK_SOAK_UPGRADE" in os.environ else Transactions


async def take_back(admin: str, roles: Any, release: Release) -> int:
    """Take back what came after a release; answers how many revisions that were."""
    count = 0
    for branch in reversed(HISTORY.branches):
        order = HISTORY.order(branch)
        steps = len(order) - order.index(release.heads[branch]) - 1 if branch in release.heads else len(order)
        if steps:
            count += len((await rollback(admin, branch=branch, steps=steps, roles=roles)).revisions)
    return count


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Ground]:
    """A database of the release before, which this code runs on."""
    template = await tally_server.template(None, ALL, ())
    made = Ground(tally_server, await tally_server.clone(template, "_before"), tally.keys)
    assert await take_back(made.url("admin"), tally_server.roles, BEFORE) > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "RELEASES", (BEFORE,))
        async with made.opened(entities=ALL) as app:
            made.tally = app
            yield made
    await tally_server.drop(made.database)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store_app(ground: Ground) -> Tallystick:
    return ground.tally


class TestCoreOnTheSchemaBefore(CORE):
    """The suite's core, unchanged."""


async def test_the_domains_work_on_it_and_what_is_new_says_so(ground: Ground) -> None:
    tenant = (await ground.tenants(1))[0]
    async with ground.tally.session(tenant, actor="a", permissions=("*",)) as db:
        make = Make(db)
        user = await make(User)
        assert await db.users.get(user.id) == user
        assert (await make(LoanProduct)).tenant_id == tenant.id
        await db[Shelf].add(Shelf(name="one"))
        if BEFORE is PLAYED:
            for entity in (CustomField, Device):
                with pytest.raises(NotMigrated):
                    await db[entity].find()
    assert (await ground.tally.metrics()).migrated


async def test_it_is_said_once_and_migrating_ends_it(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    async with ground.opened(entities=ALL) as app:
        with caplog.at_level(logging.WARNING, logger="tallystick.schema"):
            await app.ready()
            await app.ready()
    (said,) = [r.getMessage() for r in caplog.records if r.name == "tallystick.schema"]
    assert BEFORE.version in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "RELEASES", ())
        async with ground.opened(entities=ALL) as app:
            with pytest.raises(NotMigrated, match="older than the code"):
                await app.ready()


async def test_two_releases_behind_is_refused(ground: Ground) -> None:
    oldest = {b: HISTORY.order(b)[0] for b in HISTORY.branches}
    later = Release("0.0.1", {**BEFORE.heads, "identity": HEADS["identity"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "RELEASES", (Release("0.0.0", oldest), later))
        async with ground.connected("app") as conn:
            with pytest.raises(NotMigrated, match="identity"):
                await check_migrated(conn, domains=HISTORY.branches[1:])


async def test_an_application_s_own_revisions_are_needed_whatever_the_release(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "shop_0001.py").write_text(
        'revision = "shop_0001"\ndown_revision = None\nbranch_labels = ("shop",)\ndepends_on = "kit_0001"\n'
    )
    async with ground.connected("app") as conn:
        with pytest.raises(NotMigrated, match="shop"):
            await check_migrated(conn, version_locations=[tmp_path])


async def test_upgraded_it_is_what_a_new_one_is(ground: Ground) -> None:
    """The last step; the code before goes on meanwhile, because revisions of a release only add."""
    tenant = (await ground.tenants(1))[0]
    async with ground.tally.session(tenant, actor="a", permissions=("*",)) as db:
        await db[Shelf].add(Shelf(name="before"))
        await migrate(ground.url("admin"), domains=HISTORY.branches[1:], entities=ALL, roles=ground.server.roles)
        assert [s.name for s in await db[Shelf].find()] == ["before"]
    async with ground.connected("app") as conn:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(releases, "RELEASES", ())
            await check_migrated(conn, domains=HISTORY.branches[1:], entities=ALL)


def test_the_table_of_releases_is_right() -> None:
    """Each line names revisions that are still here, none newer than ours, and the last is ours or the one before."""
    for older, newer in pairwise(RELEASES):
        assert [*map(int, older.version.split("."))] < [*map(int, newer.version.split("."))]
        assert HISTORY.implied(older.heads.values()) <= HISTORY.implied(newer.heads.values())
    for release in RELEASES:
        assert set(release.heads.values()) <= set(HISTORY.revisions), f"{release.version} cannot be upgraded from"
    changelog = Path(__file__).parents[2] / "CHANGELOG.md"
    released = changelog.exists() and f"## {tallystick.__version__}" in changelog.read_text()
    assert released == (tallystick.__version__ in {r.version for r in RELEASES}), "a release adds its line"


def test_which_release_is_the_one_before() -> None:
    one, two = Release("1.0.0", {}), Release("1.1.0", {})
    assert releases.previous((), "1.0.0") is None
    assert releases.previous((one,), "1.0.0") is None
    assert releases.previous((one,), "1.1.0") is one
    assert releases.previous((one, two), "1.1.0") is one
    assert releases.previous((one, two), "1.2.0") is two
    assert releases.runs_on(one, frozenset(), HISTORY, ("new_branch",))
    assert not releases.runs_on(None, frozenset(), HISTORY, ("kit",))
    assert not releases.runs_on(Release("1", {"kit": "kit_0004"}), frozenset({"kit_0003"}), HISTORY, ("kit",))
