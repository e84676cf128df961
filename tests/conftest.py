"""Fixtures of the whole suite: the testing kit's own, with the tests' entities."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from tests.soak import RANDOM

from tallystick import Entity

if TYPE_CHECKING:
    from tests.bouncer import Behind

    from tallystick.testing import KitServer

# Installed, the plugin registers itself; from a bare checkout it has to be named.
if not any(e.value == "tallystick.testing.plugin" for e in entry_points(group="pytest11")):
    pytest_plugins = ["tallystick.testing.plugin"]


# A busy machine is not a broken law. And a rare counterexample is found when a soak looks for it, which draws anew, not
# when somebody else's change is judged: the ordinary run draws the same examples every time.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=not RANDOM,
    print_blob=True,
)
settings.load_profile("suite")


def _draw_no_constants_of_modules() -> None:
    """Draw none from the modules imported so far, which are others in each worker.

    Hypothesis has no setting for it. If it keeps them elsewhere one day, examples differ by worker and no test fails.
    """
    with suppress(ImportError, AttributeError):
        providers: Any = import_module("hypothesis.internal.conjecture.providers")
        none, _ = providers._local_constants, providers._get_local_constants
        providers._get_local_constants = lambda: none


if not RANDOM:
    _draw_no_constants_of_modules()


@pytest.fixture(scope="session")
def tally_entities() -> Sequence[type[Entity]]:
    from tests.entities import ALL

    return ALL


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_connection: looks at the application's connections, so at no twin's")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server-only", action="store_true", help="only the tests that run on the kit's server, for another PostgreSQL"
    )
    parser.addoption(
        "--through",
        choices=("pgbouncer", "sync"),
        default=None,
        help="the same tests, their application reached another way: behind PgBouncer, or by the synchronous facade",
    )


# What the ordinary run asks several ways: the attacks on the wall; the conformance suite has a module for the facade.
_BOTH = "attacks/test_t*.py"
# Of these, what goes through sessions goes through the facade's too; the rest does when asked to: --through sync.
_FACADED = ("test_t01", "test_t02", "test_t03", "test_t06_injection", "test_t09", "test_t19", "test_t20", "test_t21")
# Of these, what is quick goes behind PgBouncer too; the rest does when asked to: --through pgbouncer.
_POOLED = ("test_t08", "test_t09", "test_t12", "test_t20", "test_t21")
_BY_FACADE = "conformance/test_sync.py"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.config.getoption("--through") is None and metafunc.definition.path.match(_BOTH):
        name = metafunc.definition.path.name
        ways = [("sync", _FACADED), ("pgbouncer", _POOLED)]
        more = [way for way, modules in ways if name.startswith(modules)]
        metafunc.parametrize("through", ["direct", *more], indirect=True)


@pytest.fixture(scope="session")
def pooled(tally_server: KitServer) -> Iterator[Callable[[], Behind]]:
    """A PgBouncer before the run's server, in transaction mode, for whoever asks for it; it starts when one does."""
    from tests.bouncer import MISSING, PGBOUNCER, Behind, pgbouncer

    with ExitStack() as started:

        @cache
        def behind() -> Behind:
            if PGBOUNCER is None:
                pytest.skip(MISSING)
            return Behind(started.enter_context(pgbouncer(tally_server.url("app", "postgres"))))

        yield behind


@pytest.fixture(autouse=True)
def through(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """How sessions are reached: as they are, or by the synchronous facade (``--through sync``: in every test)."""
    way: str | None = getattr(request, "param", request.config.getoption("--through"))
    if way is None and request.path.match(_BY_FACADE):
        way = "sync"
    if way == "sync":
        from tests.through import session

        from tallystick.app import Tallystick

        monkeypatch.setattr(Tallystick, "session", session)
    if way == "pgbouncer" and request.node.get_closest_marker("own_connection"):
        pytest.skip("it looks at the connections of the application itself")
    if way == "pgbouncer" and "tally_server" in request.fixturenames:
        request.getfixturevalue("pooled")().patch(monkeypatch)
    return way


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders of which the second server runs nothing need not be read for it."""
    return True if config.getoption("--server-only") and collection_path.name in _ONCE else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server-only"):
        kept = [item for item in items if "tally_server" in getattr(item, "fixturenames", ()) and _again(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin no test in the last seconds of a day: one that asks twice what day it is gets one answer."""
    now = datetime.now(UTC)
    left = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1) - now
    if left < timedelta(seconds=20):
        time.sleep(left.total_seconds())


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: whoever collects it, as benchmarks do before each turn, need not look."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


# What they ask is answered in Python or by published numbers, or asked again by races, attacks and conformance tests,
# which do run twice: each domain's operations are among those.
_ONCE = frozenset(
    {
        *("badinput", "cli", "docs", "examples", "properties", "reference", "unit"),
        *("community", "identity", "lending", "proofs", "reputation", "savings", "underwriting", "vaults"),
        *("test_celery.py", "test_django.py", "test_fastapi.py", "test_litestar.py", "test_openapi.py", "test_sync.py"),
        *("test_custom_fields.py", "test_extension.py", "test_statuses.py", "test_pools.py"),
    }
)


def _again(item: pytest.Item) -> bool:
    """Whether a test runs on the second server too: what a server decides, of a race the first repeat, no crash."""
    parts = frozenset(item.path.relative_to(item.config.rootpath).parts)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    repeat = parameters.get("_", parameters.get("repeat", 0))
    if parameters.get("through") in ("sync", "pgbouncer"):
        return False
    again = "races" in parts and ((isinstance(repeat, int) and repeat > 0) or "crash" in item.path.name)
    return not parts & _ONCE and not again
