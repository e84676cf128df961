"""A process that repays loans in children of its own and kills each of them with -9: ``repayer.py FILE``.

FILE is JSON: the settings, the tenant, the loans, how many children there are and how many run at once, a seed, and the
directory in which each child notes what it is about to do and what it was told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from tallystick import Settings, Tallystick, TallystickError, usd
from tallystick.domains.lending import repository  # noqa: F401  imported before the first fork
from tallystick.stores.postgres import store  # noqa: F401

PATIENCE = 20.0


async def repay(work: dict[str, Any], child: int, notes: int) -> None:
    """Repay by turns until the end comes, with a line before and after each payment."""
    settings = Settings.load({}, **work["settings"])
    async with (
        Tallystick.open(domains=["lending"], settings=settings) as tally,
        tally.session(work["tenant"], actor=f"child:{child}", permissions=("*",)) as db,
    ):
        os.write(notes, b"ready\n")
        for turn in range(10_000):
            key = f"{child}.{turn}"
            loan = UUID(work["loans"][(child + turn) % len(work["loans"])])
            os.write(notes, f"try {key} {loan}\n".encode())
            done = await db.loans.repay(loan, usd("0.01"), on=date(2026, 2, 1), key=key)
            os.write(notes, f"did {key} {done.id}\n".encode())


def child_of(work: dict[str, Any], number: int) -> int:
    """Fork a child that repays; answers its process id."""
    process = os.fork()
    if process:
        return process
    notes = os.open(Path(work["notes"]) / f"{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        asyncio.run(repay(work, number, notes))
    except TallystickError as problem:
        os.write(notes, f"error {type(problem).__name__}\n".encode())
    finally:
        os._exit(1)


def main(file: str) -> None:
    """Fork, wait until each child is at work, kill each at a moment of its own."""
    work = json.loads(Path(file).read_text())
    chance = random.Random(work["seed"])
    notes = Path(work["notes"])
    for first in range(0, work["children"], work["at_once"]):
        children = {n: child_of(work, n) for n in range(first, min(first + work["at_once"], work["children"]))}
        patience = time.monotonic() + PATIENCE
        for number in children:
            at = notes / f"{number}.txt"
            while not (at.exists() and at.stat().st_size) and time.monotonic() < patience:
                time.sleep(0.005)
        for process in children.values():
            time.sleep(chance.uniform(0.0, 0.12))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


if __name__ == "__main__":
    main(sys.argv[1])
