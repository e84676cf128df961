"""Rows against the log: nothing is found where nothing was done, whoever writes, whatever was migrated."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.attacks.test_audit_reconcile import silently
from tests.audit.ground import SealedGround

from tallystick import ReconcileReport, Tallystick
from tallystick.audit.images import constant, differing
from tallystick.cli import demo_circles, demo_reputation, demo_vaults
from tallystick.cli.demo_lending import lend
from tallystick.errors import Invalid, NotFound
from tallystick.testing.conformance.entities import Shelf


async def test_the_last_image_is_the_row_after_every_story_of_the_demo(tally: Tallystick, tenant: str) -> None:
    """Also that capture comes before whatever else follows a write: else an older image would be the last one."""
    for story in (lend, demo_circles.save, demo_reputation.repute, demo_vaults.guard):
        await story(tally, tenant)
    report = await tally.audit.reconcile(tenant, deep=True)
    assert (report.findings, report.expired, report.next, report.unknown) == ([], 0, None, ())
    assert report.clean
    assert report.entries > report.rows == report.logged > 400
    assert report.tables > 60
    assert report.derived > 50


async def test_writers_at_work_cause_no_alarm(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    shelves = await sealed.shelves(tenant, 6)
    done, turns = False, 0
    reports: list[ReconcileReport] = []

    async def write(number: int) -> None:
        nonlocal turns
        times = 0
        async with sealed.tally.session(tenant, actor=f"writer {number}", permissions=("*",)) as db:
            while not done:
                async with db.transaction():
                    shelf = await db[Shelf].lock(shelves[times % len(shelves)].id)
                    shelf = await db[Shelf].update(shelf, stock=shelf.stock + 1)
                    await db[Shelf].update(shelf, stock=shelf.stock + 1)
                    new = await db[Shelf].add(Shelf(name=f"{number} {times}"))
                if times % 2:
                    await db[Shelf].purge(new, reason="test")
                times, turns = times + 1, turns + 1
                # Unbridled, writers outrun a reader of small batches for minutes: what is read grows while it is read.
                await asyncio.sleep(0.05)
                while turns > 25 * (len(reports) + 1) and not done:  # noqa: ASYNC110  the reader is the slow one
                    await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write(n)) for n in range(4)]
    try:
        async with asyncio.timeout(240):
            while len(reports) < 12 or turns < 20:
                reports.append(await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"], deep=True, batch=7))
    finally:
        done = True
        await asyncio.gather(*writers)
    assert [r.findings for r in reports] == [[]] * len(reports)


async def test_it_goes_on_where_it_stopped(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    shelves = await sealed.shelves(tenant, 7)
    async with sealed.connected("owner") as owner:
        wrong = [f"UPDATE tally.kit_shelf SET stock = 9 WHERE id = '{s.id}'" for s in shelves[::3]]
        await silently(owner, "kit_shelf", *wrong, f"DELETE FROM tally.kit_shelf WHERE id = '{shelves[4].id}'")
    told: list[str | None] = []
    findings, after, calls, rows, logged = [], None, 0, 0, 0
    while calls == 0 or after is not None:
        report = await sealed.tally.audit.reconcile(
            tenant, tables=["kit_shelf", "tenant"], after=after, batches=1, batch=2, told=lambda r: told.append(r.next)
        )
        calls, after = calls + 1, report.next
        findings += report.findings
        rows, logged = rows + report.rows, logged + report.logged
        assert report.clean is False or after is None
    assert (rows, logged) == (7, 8)
    assert sorted((f.key, f.kind) for f in findings) == sorted(
        [(str(s.id), "edited") for s in shelves[::3]] + [(str(shelves[4].id), "removed")]
    )
    assert calls > 7
    assert told[-1] is None
    for after in (
        "",
        "rows:kit_shelf",
        "rows:kit_shelf:x",
        "rows:user_account:" + str(tenant),
        "back:kit_shelf:z",
        "entries:kit_shelf:z",
    ):
        with pytest.raises(Invalid, match="position"):
            await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"], after=after)
    for tables in ([], ["nothing"], ["entry"]):
        with pytest.raises(Invalid, match="no audited table"):
            await sealed.tally.audit.reconcile(tenant, tables=tables)
    for batch in (0, -1, 100_001, True, 1.5):
        with pytest.raises(Invalid, match="batch"):
            await sealed.tally.audit.reconcile(tenant, batch=batch)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await sealed.tally.audit.reconcile("nobody")


async def test_what_migrations_do_is_no_tampering(sealed: SealedGround) -> None:
    """Columns that came, went and were renamed after the last image; an edit in a new column is still found."""
    tenant = await sealed.tenant()
    one, other = await sealed.shelves(tenant, 2)
    async with sealed.connected("owner") as owner:
        for change in (
            "ADD COLUMN plain text",
            "ADD COLUMN worded text NOT NULL DEFAULT 'it''s'",
            "ADD COLUMN number numeric(12, 2) NOT NULL DEFAULT 1.5",
            "ADD COLUMN since timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+00'",
            "RENAME COLUMN archived_at TO shelved_at",
        ):
            await owner.execute(f"ALTER TABLE tally.kit_shelf {change}")

        async def found() -> ReconcileReport:
            return await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"])

        assert (await found()).clean
        async with sealed.tally.session(tenant, actor="clerk", permissions=("*",)) as db, db.transaction():
            await db.unit.call("UPDATE tally.kit_shelf SET stock = 3", ())
        assert (await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"], deep=True)).clean
        await owner.execute("ALTER TABLE tally.kit_shelf DROP COLUMN created_by")
        assert (await found()).clean
        # What rewrites the table leaves nothing that tells which rows have the default from their column.
        await owner.execute(
            "ALTER TABLE tally.kit_shelf ADD COLUMN twice bigint GENERATED ALWAYS AS (stock * 2) STORED"
        )
        assert (await found()).clean
        await silently(owner, "kit_shelf", f"UPDATE tally.kit_shelf SET worded = 'no' WHERE id = '{other.id}'")
    (edited,) = [f for f in (await found()).findings if "worded" in f.columns]
    assert (edited.key, edited.kind) == (str(other.id), "edited")
    assert one.id != other.id


async def test_rows_whose_images_were_dropped_are_counted_and_no_finding(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    old, new = await sealed.shelves(tenant, 2)
    await sealed.seal()
    async with sealed.unguarded() as su:
        await su.execute("UPDATE tally_audit.entry SET at = '2015-03-05 00:00:00+00' WHERE key = $1", str(old.id))
        await su.execute(
            "UPDATE tally_audit.leaf l SET at = e.at FROM tally_audit.entry e WHERE e.seq = l.seq AND e.key = $1",
            str(old.id),
        )
    async with sealed.connected("owner") as owner:
        moment = "'2015-03-05 00:00:00+00'"
        await silently(owner, "kit_shelf", f"UPDATE tally.kit_shelf SET updated_at = {moment} WHERE id = '{old.id}'")
    async with sealed.connected("seal") as conn:
        await conn.execute("SELECT * FROM tally_audit.make_partitions(1)")
        await conn.execute("SELECT tally_audit.drop_bodies('2015-03-01')")
    report = await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"])
    assert (report.expired, report.rows, report.findings) == (1, 2, [])
    # One that has changed since then has to have an image.
    async with sealed.connected("owner") as owner:
        await silently(owner, "kit_shelf", f"UPDATE tally.kit_shelf SET updated_at = now() WHERE id = '{old.id}'")
    (one,) = (await sealed.tally.audit.reconcile(tenant, tables=["kit_shelf"])).findings
    assert (one.key, one.kind) == (str(old.id), "added")
    assert new.id != old.id


async def test_the_registry_of_tenants_is_compared_too(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    assert (await sealed.tally.audit.reconcile(tenant, tables=["tenant"])).rows == 1
    async with sealed.connected("superuser") as su:
        await su.execute("ALTER TABLE tally_ref.tenant DISABLE TRIGGER ALL")
        await su.execute("UPDATE tally_ref.tenant SET cut_off = '23:00' WHERE id = $1", tenant)
    (one,) = (await sealed.tally.audit.reconcile(tenant, tables=["tenant"])).findings
    assert (one.table, one.key, one.kind, one.columns) == ("tenant", str(tenant), "edited", ("cut_off",))


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"a": 1}, {"a": 1}, {}, ()),
    ({"a": Decimal("1.50")}, {"a": Decimal("1.5")}, {}, ()),
    ({"a": 2, "b": None}, {"a": 1, "b": 0}, {}, ("a", "b")),
    ({"a": {"x": [1, 2]}}, {"a": {"x": [2, 1]}}, {}, ("a",)),
    ({"a": 1, "new": None}, {"a": 1}, {}, ()),
    ({"a": 1, "new": 3}, {"a": 1}, {}, ("new",)),
    ({"a": 1, "new": 3}, {"a": 1}, {"new": [None, 3]}, ()),
    ({"a": 1, "new": 4}, {"a": 1}, {"new": [None, 3]}, ("new",)),
    ({"a": 1, "made": 4}, {"a": 1}, {"made": [...]}, ()),
    ({"a": 1, "made": 4}, {"a": 1, "made": 5}, {"made": [...]}, ("made",)),
    ({"after": "x"}, {"before": "x"}, {}, ()),
    ({"after": "y"}, {"before": "x"}, {}, ("after",)),
    ({"a": 1}, {"a": 1, "gone": 2}, {}, ()),
]


@pytest.mark.parametrize(("now", "image", "added", "columns"), CASES)
def test_what_differs(
    now: dict[str, Any], image: dict[str, Any], added: dict[str, Any], columns: tuple[str, ...]
) -> None:
    assert differing(now, image, added) == columns


@pytest.mark.parametrize(
    ("default", "values"),
    [
        (None, []),
        ("now()", []),
        ("gen_random_uuid()", []),
        ("'open'::text", ["open"]),
        ("'it''s'::character varying(80)", ["it's"]),
        ("'0'::bigint", ["0", 0]),
        ("1.50", [Decimal("1.50")]),
        ("'-7'::integer", ["-7", -7]),
        ("false", [False]),
        ("'{}'::jsonb", [{}]),
        ("'2026-01-02 03:04:05+00'::timestamp with time zone", ["2026-01-02T03:04:05+00:00"]),
        ("'2026-01-02 03:04:05'::timestamp without time zone", ["2026-01-02T03:04:05"]),
        ("'a'::text || current_user", []),
        ("'a'::text); DROP TABLE x; --'", []),
    ],
)
def test_constants_are_read_and_nothing_is_run(default: str | None, values: list[Any]) -> None:
    assert constant(default) == values


async def test_it_is_the_application_role_within_one_tenant(sealed: SealedGround) -> None:
    """No right is needed that the application does not have; the sealing role cannot even read the rows."""
    tenant, other = await sealed.tenant(), await sealed.tenant()
    await sealed.shelves(tenant, 2)
    await sealed.shelves(other, 3)
    async with sealed.opened(seal_url=None, seal_key_file=None, anchor_dir=None, admin_url=None) as tally:
        assert (await tally.audit.reconcile(tenant, tables=["kit_shelf"])).rows == 2
        report = await tally.audit.reconcile(other, tables=["kit_shelf"])
    assert (report.rows, report.tenant) == (3, other)
    assert isinstance(report.tenant, UUID)
