"""Every example runs, says what it does, and leaves nothing.

One runs as a reader runs it, on an embedded server that it starts. The others are given a database of the run's server
by the environment, migrated already, because starting and migrating is most of what each would take.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tallystick.testing import KitServer

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples"
SAYS = {
    "own_entity": ("made: guarantor", "••••6789", "unique, although encrypted: [TS-1202]", "another tenant: [TS-1100]"),
    "tour_1_open": ("migrated: kit_0001", "tenant: sunrise Sunrise Co-op Africa/Lagos"),
    "tour_2_entity": ("table: tally.visit", "sealed: national_id", "for visits to plan"),
    "tour_3_add_get_change": ("got: 12.50 USD for Ada", "version 1 -> 2", "somebody was faster: [TS-1201]"),
    "tour_4_page": (
        "a page of 1 with {'units': 30000, 'asset': 'USD'}",
        "a page of 1 with {'units': 20000, 'asset': 'USD'}",
        "a filter there is not: 422 TS-1600 colour",
        "nobody: 401 The login failed.",
        "described: ",
    ),
    "tour_5_report": ("done: 1 visits, 750 cents", "planned: 3 visits, 600 cents"),
    "tour_7_reveal": (
        "everybody sees: ••••5566",
        "without the permission: [TS-1404]",
        "opened: 19870412-5566",
        "kept: user:7 opened national_id of a visit for: KYC case 91",
    ),
    "tour_6_money": (
        "paid out: 1000.00 USD, outstanding 1015.04 USD",
        "paid: 120.00 USD, outstanding 895.04 USD, delivered again: False",
        "paid: 120.00 USD, outstanding 895.04 USD, delivered again: True",
        "books in balance: True",
    ),
    "tour_10_race": ("16 deliveries, 1 payment, outstanding 90.00 USD",),
    "tour_8_score": ("scored: 712 of 1000 by m7", "taken back meanwhile: [TS-1403], scores: 1"),
    "tour_9_worker": ("given back: event-3, the price feed is down", "left: ['event-3']", "attempt 2 of event-3"),
    "complete": (
        "initialised:",
        "120 inputs; delivered again, the same one: True",
        "of one user: 60 | of a session: 2",
        "paged: 36 inputs in pages of [15, 15, 6]",
        "processed: 10 claimed by a worker, 20 marked at once",
        "reputation after 0 days: 909 of 1000 from 9 experiences",
        "reputation after 30 days: 846 of 1000",
        "analytics: 120 inputs (40 defi, 40 nft, 40 social), 30 processed, 90 waiting",
        "healthy: PostgreSQL",
        "cleaned up: 120 inputs, 0 left",
    ),
}


def test_every_example_is_tested() -> None:
    assert {p.stem for p in FOLDER.glob("*.py") if not p.name.startswith("_")} == set(SAYS)


ALONE = "tour_1_open"


def _run(name: str, **given: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tallystick-example-") as place:
        os.chmod(place, 0o711)
        kept = {n: os.environ[n] for n in ("PATH", "PYTHONPATH", "HOME") if n in os.environ}
        done = subprocess.run(
            [sys.executable, str(FOLDER / f"{name}.py")],
            env={**kept, **given, "TMPDIR": place, "PYTHONWARNINGS": "error::ResourceWarning"},
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        for words in SAYS[name]:
            assert words in done.stdout
        assert list(Path(place).iterdir()) == []


def test_an_example_needs_nothing() -> None:
    _run(ALONE)


@pytest.mark.parametrize("name", sorted(SAYS.keys() - {ALONE}))
async def test_example(name: str, tally_server: KitServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    database = await tally_server.clone(await tally_server.template(), f"_{name}")
    try:
        await asyncio.to_thread(
            _run,
            name,
            DATABASE_URL=tally_server.url("app", database),
            TALLYSTICK_ADMIN_URL=tally_server.url("admin", database),
            TALLYSTICK_ROLE_PREFIX=tally_server.roles.prefix,
            TALLYSTICK_KEY_FILE=str(key),
        )
    finally:
        await tally_server.drop(database)
