"""Sessions, transactions, tenants and actors that are missing, wrong, closed, shared or nested."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from tests.badinput.support import refused, unchanged, valid
from tests.entities import Shelf, Sink

from tallystick import Tallystick
from tallystick.errors import (
    Conflict,
    Denied,
    Duplicate,
    Invalid,
    NotFound,
    QuotaExceeded,
    RoleMissing,
    StaleVersion,
    TallystickError,
    TenantMissing,
    Unavailable,
    Unsupported,
)
from tallystick.settings import Settings


@pytest.mark.parametrize("tenant", [None, ""])
async def test_no_tenant(tally: Tallystick, tenant: Any) -> None:
    with refused(TenantMissing):
        async with tally.session(tenant, actor="a"):
            pass


@pytest.mark.parametrize(
    "tenant",
    ["unknown", "UNKNOWN", " ", "a b", "nul\0", "\ud800", "'; --", "x" * 10_000, uuid4(), str(uuid4()), "\u202e", "%"],
    ids=range(12),
)
async def test_an_unknown_tenant(tally: Tallystick, tenant: Any) -> None:
    with refused(NotFound):
        async with tally.session(tenant, actor="a"):
            pass


@pytest.mark.parametrize("tenant", [5, True, b"x", ["x"], {"id": 1}, object(), 1.5], ids=range(7))
async def test_a_tenant_of_the_wrong_kind(tally: Tallystick, tenant: Any) -> None:
    with refused(Invalid):
        async with tally.session(tenant, actor="a"):
            pass


async def test_a_slug_with_a_nul_is_not_the_slug_without_it(tally: Tallystick, tenant: str) -> None:
    for close in (f"{tenant}\0", f"\0{tenant}", tenant.upper(), f" {tenant}", f"{tenant}\n"):
        with refused(NotFound):
            async with tally.session(close, actor="a"):
                pass


async def test_an_inactive_tenant(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=["*"]) as db:
        await db[Sink].add(valid())
        await tally.tenants.update(db, is_active=False)
    # What is known of a closed tenant opens no session either.
    for named in (tenant, tenant, await tally.tenants.find(tenant)):
        with refused(Denied) as caught:
            async with tally.session(named, actor="a"):
                pass
        # Who is refused has no session in which the tenant could be changed.
        assert "tallystick tenants reopen" in caught.value.remedy
    async for db in tally.system():
        assert db.tenant.slug != tenant


@pytest.mark.parametrize("actor", [None, "", " ", "\t", "x" * 201, "a\0b", "\ud800", 5, b"a", ["a"]], ids=range(10))
async def test_no_actor(tally: Tallystick, tenant: str, actor: Any) -> None:
    with refused():
        tally.session(tenant, actor=actor)
    with refused():
        async for _ in tally.system(actor=actor):
            pass
    with pytest.raises(TypeError):
        tally.session(tenant)  # type: ignore[call-arg]


async def test_a_closed_session(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a") as db:
        row = await db[Sink].add(valid())
        stream = db[Sink].stream()
        repository = db[Sink]
    for attempt in (
        lambda: db[Sink].get(row.id),
        lambda: repository.get(row.id),
        lambda: repository.add(valid()),
        lambda: repository.update(row, number=5),
        lambda: repository.purge(row, reason="gone"),
        lambda: db.consume("users"),
        lambda: db.tenant_record(),
        lambda: db.atomic(lambda d: d[Sink].count()),
        lambda: anext(stream),
        lambda: db.transaction().__aenter__(),
        lambda: db.load([row], Sink.owner) if False else repository.find(),
    ):
        with refused():
            await attempt()
    async with tally.session(tenant, actor="a") as db:
        assert await db[Sink].count() == 1
    await db.close()
    await db.close()


async def test_a_session_that_was_never_entered(tally: Tallystick, tenant: str) -> None:
    context = tally.session(tenant, actor="a")
    with pytest.raises(TypeError):
        context[Sink]  # type: ignore[index]
    await context.__aexit__(None, None, None)


async def test_a_transaction_is_its_tasks_alone(tally: Tallystick, tenant: str) -> None:
    async with unchanged(tally, tenant) as db:
        with pytest.raises(RuntimeError):
            async with db.transaction():
                await db[Sink].add(valid())
                for attempt in (
                    lambda: db[Sink].count(),
                    lambda: db[Sink].add(valid()),
                    lambda: db.consume("users"),
                    lambda: db.transaction().__aenter__(),
                    lambda: db.atomic(lambda d: d[Sink].count()),
                ):
                    with refused():
                        await asyncio.create_task(attempt())  # type: ignore[arg-type]
                # The transaction itself did not suffer.
                assert await db[Sink].count() == 1
                raise RuntimeError


async def test_statements_of_one_transaction_at_once(tally: Tallystick, tenant: str) -> None:
    async with unchanged(tally, tenant) as db:
        with pytest.raises(RuntimeError):
            async with db.transaction():
                results = await asyncio.gather(*(db[Sink].count() for _ in range(5)), return_exceptions=True)
                wrong = [r for r in results if isinstance(r, BaseException)]
                assert wrong
                for problem in wrong:
                    assert isinstance(problem, Invalid)
                    assert problem.remedy
                assert await db[Sink].count() == 0
                raise RuntimeError


async def test_two_tasks_that_begin_at_once(tally: Tallystick, tenant: str) -> None:
    """One gets the session's transaction and the other is told; nothing of either ends up in the other's."""
    async with tally.session(tenant, actor="a") as db:

        async def begin(number: int) -> str:
            async with db.transaction():
                await asyncio.sleep(0.01)
                await db[Sink].add(valid(number=number))
            return "done"

        results = await asyncio.gather(*(begin(n) for n in range(4)), return_exceptions=True)
        assert sorted(type(r).__name__ for r in results) == ["Invalid"] * 3 + ["str"]
        assert db.unit.depth == 0
        assert await db[Sink].count() == 1
        # And the session goes on.
        assert await begin(9) == "done"
        assert await db[Sink].count() == 2
    assert tally.store.pool.stats().waiting == 0


async def test_tasks_may_share_a_session_outside_transactions(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a") as db:
        rows = await asyncio.gather(*(db[Sink].add(valid(number=n)) for n in range(8)))
        assert {r.number for r in await db[Sink].find()} == set(range(8))
        assert len({r.id for r in rows}) == 8


@pytest.mark.parametrize("isolation", ["snapshot", "SERIALIZABLE", "", "read uncommitted; DROP TABLE x", 5])
async def test_an_isolation_that_is_none(tally: Tallystick, tenant: str, isolation: Any) -> None:
    async with unchanged(tally, tenant) as db:
        with refused():
            async with db.transaction(isolation):
                pass
        with refused():
            await db.atomic(lambda d: d[Sink].count(), isolation=isolation)


async def test_a_nested_transaction_has_the_outer_ones_isolation(tally: Tallystick, tenant: str) -> None:
    async with unchanged(tally, tenant) as db, db.transaction():
        with refused():
            async with db.transaction("serializable"):
                pass
        with refused():
            async with db.transaction(read_only=True):
                pass
        assert db.unit.depth == 1


async def test_a_write_in_a_read_only_transaction(tally: Tallystick, tenant: str) -> None:
    async with unchanged(tally, tenant) as db:
        with refused(Unsupported):
            async with db.transaction(read_only=True):
                assert await db[Sink].count() == 0
                await db[Sink].add(valid())


async def test_going_on_after_an_error_in_a_transaction(tally: Tallystick, tenant: str) -> None:
    """The server ignores what follows an error; both the statements and the end of the block say so."""
    async with unchanged(tally, tenant) as db:
        with refused(Conflict):
            async with db.transaction():
                await db[Shelf].add(Shelf(name="x"))
                with refused(Duplicate):
                    await db[Shelf].add(Shelf(name="x"))
                with refused(Conflict):
                    await db[Shelf].count()
        with refused(Conflict):
            async with db.transaction():
                await db[Shelf].add(Shelf(name="x"))
                with refused(Duplicate):
                    await db[Shelf].add(Shelf(name="x"))
        assert db.unit.depth == 0
        assert await db[Shelf].count() == 0


@pytest.mark.parametrize("levels", [1, 2, 5])
async def test_a_savepoint_that_fails_ends_at_its_own_level(tally: Tallystick, tenant: str, levels: int) -> None:
    async with tally.session(tenant, actor="a") as db:

        async def deep(level: int) -> None:
            async with db.transaction():
                await db[Shelf].add(Shelf(name=f"level {level}"))
                if level:
                    await deep(level - 1)
                else:
                    with refused(Duplicate):
                        await db[Shelf].add(Shelf(name="level 0"))

        async with db.transaction():
            await db[Shelf].add(Shelf(name="outer"))
            with refused(Conflict):
                await deep(levels - 1)
            assert db.unit.depth == 1
            await db[Shelf].add(Shelf(name="after"))
        assert db.unit.depth == 0
    async with tally.session(tenant, actor="a") as db:
        assert sorted(s.name for s in await db[Shelf].find()) == ["after", "outer"]


async def test_a_cancelled_savepoint_leaves_no_transaction_behind(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a") as db:
        for delay in (0, 0.0005, 0.001, 0.002, 0.004):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay), db.transaction():
                    await db[Shelf].add(Shelf(name="lost"))
                    async with db.transaction():
                        await db[Shelf].add(Shelf(name="lost too"))
                        await asyncio.sleep(1)
            assert db.unit.depth == 0
            assert await db[Shelf].count() == 0
        await db[Shelf].add(Shelf(name="kept"))
    async with tally.session(tenant, actor="a") as db:
        assert [s.name for s in await db[Shelf].find()] == ["kept"]


async def test_an_application_that_is_not_open(tally: Tallystick, tenant: str) -> None:
    unopened = Tallystick.open(settings=tally.settings, keys=tally.keys)
    for attempt in (
        lambda: unopened.session(tenant, actor="a").__aenter__(),
        lambda: unopened.tenants.create("x", name="x"),
        lambda: unopened.ready(),
        lambda: anext(unopened.system()),
    ):
        with refused(Unavailable):
            await attempt()
    async with unopened:
        async with unopened.session(tenant, actor="a") as db:
            assert await db.users.count() == 0
            kept = db
    for late in (
        lambda: kept.users.count(),
        lambda: unopened.session(tenant, actor="a").__aenter__(),
    ):
        with refused(Unavailable, Invalid):
            await late()


async def test_an_application_closed_under_its_sessions(tally: Tallystick, tenant: str) -> None:
    other = Tallystick.open(settings=tally.settings, keys=tally.keys)
    await other.start()
    async with other.session(tenant, actor="a") as db:
        assert await db.users.count() == 0
        await other.close()
        with refused(Unavailable, Invalid):
            await db.users.count()
        with refused(Unavailable, Invalid):
            async with db.transaction():
                pass


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "a_b", "a" * 64, "ä", "a\0", "\ud800", 5, None, uuid4(), "a/b"])
async def test_a_slug_that_is_none(tally: Tallystick, slug: Any) -> None:
    with refused():
        await tally.tenants.create(slug, name="A tenant")


async def test_a_slug_that_looks_like_an_id(tally: Tallystick) -> None:
    with refused():
        await tally.tenants.create(str(uuid4()), name="A tenant")


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\0b", "\ud800", 5, None])
async def test_a_name_that_is_none(tally: Tallystick, name: Any) -> None:
    with refused():
        await tally.tenants.create(f"t-{uuid4().hex}", name=name)


OPTIONS: list[dict[str, Any]] = [
    {"nonsense": 1},
    {"id": uuid4()},
    {"slug": "other"},
    {"plan": "platinum"},
    {"plan": 5},
    {"time_zone": "Mars/Olympus"},
    {"time_zone": 5},
    {"time_zone": ""},
    {"max_users": -1},
    {"max_users": 1.5},
    {"max_users": True},
    {"max_users": 2**40},
    {"settings": {"a": object()}},
    {"settings": {"a": float("nan")}},
    {"settings": {"a": "nul\0"}},
    {"settings": [1]},
    {"settings": "x"},
    {"feature_flags": 5},
    {"is_active": "yes please"},
    {"is_active": None},
    {"cut_off": "25:00"},
    {"cut_off": 5},
    {"domain": "UPPER.example"},
    {"domain": "x" * 254},
    {"domain": 5},
    {"billing_email": "a\0b"},
    {"billing_email": "\ud800"},
    {"billing_email": 5},
    {"billing_address": [1]},
    {"name": ""},
    {"name": None},
    {"name": "x" * 201},
    {"created_at": "2001-01-01"},
    {"version": 9, "nonsense": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(o))
async def test_a_tenants_setting_that_is_none(tally: Tallystick, tenant: str, options: dict[str, Any]) -> None:
    slug = f"t-{uuid4().hex}"
    if not {"name", "slug", "version"} & set(options):
        with refused():
            await tally.tenants.create(slug, name="A tenant", **options)
        with refused(NotFound):
            async with tally.session(slug, actor="a"):
                pass
    async with tally.session(tenant, actor="a", permissions=["*"]) as db:
        before = await db.tenant_record()
        with refused():
            await tally.tenants.update(db, **options)
        assert await db.tenant_record() == before


async def test_the_same_slug_or_domain_twice(tally: Tallystick, tenant: str) -> None:
    with refused(Duplicate):
        await tally.tenants.create(tenant, name="Another")
    domain = f"{uuid4().hex}.example"
    await tally.tenants.create(f"t-{uuid4().hex}", name="One", domain=domain)
    with refused(Duplicate):
        await tally.tenants.create(f"t-{uuid4().hex}", name="Two", domain=domain)


async def test_a_tenant_changed_by_somebody_else_or_without_the_right(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=["*"]) as db:
        record = await db.tenant_record()
        changed = await tally.tenants.update(db, name="Changed", version=record.version)
        with refused(StaleVersion):
            await tally.tenants.update(db, name="Again", version=record.version)
        for version in ("1", 1.5, True, -1):
            with refused(Invalid, StaleVersion):
                await tally.tenants.update(db, name="Again", version=version)
        assert await db.tenant_record() == changed
    async with tally.session(tenant, actor="a") as db:
        with refused(RoleMissing):
            await tally.tenants.update(db, name="Again")


async def test_a_quota_is_not_passed_and_not_counted_when_it_would_be(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=["*"]) as db:
        await tally.tenants.update(db, max_users=3)
        assert await db.consume("users", 2) == 2
        with refused(QuotaExceeded):
            await db.consume("users", 2)
        with refused(QuotaExceeded):
            await db.consume("users", 100)
        assert await db.consume("users") == 3
        for period in ("2026-01-01", 5, date.min if False else object()):
            with refused():
                await db.consume("applications", period=period)  # type: ignore[arg-type]


async def test_atomic_with_something_that_cannot_be_run(tally: Tallystick, tenant: str) -> None:
    async with unchanged(tally, tenant) as db:
        for attempts in (0, -1, True, 1.5, "5"):
            with refused():
                await db.atomic(lambda d: d[Sink].count(), attempts=attempts)  # type: ignore[arg-type]

        async def failing(inner: Any) -> None:
            await inner[Sink].add(valid())
            raise TallystickError("A problem of the application's own.", remedy="None.")

        with refused(TallystickError):
            await db.atomic(failing)


@pytest.mark.parametrize(
    "settings",
    [
        {"nonsense": 1},
        {"pool_max": 0},
        {"pool_max": "10"},
        {"pool_max": 10**9},
        {"pool_max": True},
        {"pool_min": 11},
        {"pool_timeout": 0},
        {"pool_timeout": float("nan")},
        {"statement_timeout": -1},
        {"pooler": "statement"},
        {"engine": "mysql"},
        {"role_prefix": "pg_x"},
        {"role_prefix": "Tally"},
        {"role_prefix": "x; DROP"},
        {"database_url": "mysql://x/y"},
        {"database_url": "nonsense"},
        {"database_url": ""},
        {"database_url": "postgresql://h:port/x"},
        {"database_url": "postgresql://h/x?nonsense=1"},
        {"database_url": "postgresql://db.example.org/x?sslmode=prefer"},
        {"database_url": "postgresql://db.example.org/x?sslmode=require"},
        {"database_url": "postgresql://db.example.org/x?sslmode=disable"},
        {"database_url": "postgresql://db.example.org/x?sslmode=nonsense"},
        {"database_url": "postgresql://127.0.0.1,db.example.org/x?sslmode=allow"},
        {"admin_url": "postgresql://db.example.org/x?sslmode=verify-ca"},
    ],
    ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items())[:60],
)
def test_a_setting_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with refused(Invalid, Unsupported):
        Settings.load({}, **settings)


def test_an_unknown_domain() -> None:
    for domains in (["nonsense"], ["identity", "IDENTITY"], [5], [None], "nonsense"):
        with refused():
            Tallystick.open("postgresql://localhost/x", domains=domains)
