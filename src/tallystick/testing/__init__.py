"""The testing kit: a server a run, a rolled-back sandbox a test, factories, races, and a suite for stores.

Installed with the package as a pytest plugin; the fixtures are ``tally``, ``tenant``, ``db``, ``sandbox``, ``make`` and
``race``. Needs ``pytest-asyncio`` with one event loop a session, because a connection belongs to its loop::

    [tool.pytest.ini_options]
    asyncio_mode = "auto"
    asyncio_default_fixture_loop_scope = "session"
    asyncio_default_test_loop_scope = "session"

Name your entities by overriding a fixture in ``conftest.py``::

    @pytest.fixture(scope="session")
    def tally_entities():
        return [Visit]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "KitServer": "tallystick.testing.server",
    "Make": "tallystick.testing.factories",
    "Race": "tallystick.testing.races",
    "RaceResult": "tallystick.testing.races",
    "Sandbox": "tallystick.testing.sandbox",
    "recipe": "tallystick.testing.factories",
}

if TYPE_CHECKING:
    from tallystick.testing.factories import Make as Make
    from tallystick.testing.factories import recipe as recipe
    from tallystick.testing.races import Race as Race
    from tallystick.testing.races import RaceResult as RaceResult
    from tallystick.testing.sandbox import Sandbox as Sandbox
    from tallystick.testing.server import KitServer as KitServer

__all__ = ["KitServer", "Make", "Race", "RaceResult", "Sandbox", "recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
