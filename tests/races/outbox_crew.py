"""Producers and consumers of an outbox, each a process, and consumers are killed with -9: ``outbox_crew.py FILE``.

FILE is JSON: the settings, the tenant, how many messages, keys, producers and consumers there are, seconds between
kills, how many kills there are at least, a seed, every how many-th message has an effect in the database, and the
directory in which each process notes what it does. Ends when that has a file ``stop``; producers go on until it has
``killed`` and ``ended``, so that the work outlasts the violence on any machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from tallystick import Retry, Settings, Tallystick, TallystickError
from tallystick.domains.outbox import outbox  # noqa: F401  imported before the first fork
from tallystick.session import Session
from tallystick.stores.postgres import store  # noqa: F401

PATIENT = Retry(attempts=1_000, base=timedelta(0), cap=timedelta(milliseconds=20))
Note = Callable[[str], object]


class Hiccup(Exception):
    """What goes wrong now and then."""


async def produce(db: Session, work: dict[str, Any], number: int, note: Note) -> None:
    """Add messages until enough of them are known to be there and enough was killed; some transactions roll back."""
    chance, added, turn = random.Random(work["seed"] + number), 0, 0
    enough = [Path(work["notes"]) / name for name in ("killed", "ended")]
    while added < work["messages"] // work["producers"] or not all(one.exists() for one in enough):
        turn += 1
        said = [(f"k{chance.randrange(work['keys'])}", f"{number}.{turn}.{n}") for n in range(chance.randint(1, 8))]
        try:
            async with db.transaction():
                for key, name in sorted(said):
                    await db.outbox.add("work", name, key=key)
                if chance.random() < 0.15:
                    raise Hiccup
            added += len(said)
        except Hiccup:
            for _, name in said:
                note(f"rolled {name}")
        except TallystickError as problem:
            note(f"error {type(problem).__name__}")


async def consume(db: Session, work: dict[str, Any], number: int, note: Note) -> None:
    """Handle messages: a note outside the database, and one inside it that stands exactly once."""
    chance = random.Random(work["seed"] * 1_000 + number)
    while True:
        idle = True
        try:
            async for message in db.outbox.claim(
                "work", limit=work["limit"], lease=timedelta(seconds=work["lease"]), retry=PATIENT
            ):
                idle = False
                note(f"handled {message.id} {message.attempt} {time.monotonic_ns()}")
                try:
                    async with message:
                        if message.id.int % work["every"]:
                            continue
                        async with message.transaction() as inside:
                            await inside.outbox.add("effect", str(message.id))
                            if chance.random() < 0.01:
                                raise Hiccup
                except (Hiccup, TallystickError):
                    continue
        except TallystickError as problem:
            note(f"error {type(problem).__name__}")
        if idle:
            await asyncio.sleep(chance.uniform(0.02, 0.1))


def child(
    act: Callable[[Session, dict[str, Any], int, Note], Coroutine[Any, Any, None]], work: dict[str, Any], number: int
) -> int:
    """Fork a process that acts; answers its id."""
    process = os.fork()
    if process:
        return process
    path = Path(work["notes"]) / f"{act.__name__}.{number}.txt"
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def run() -> None:
        settings = Settings.load({}, **work["settings"])
        async with (
            Tallystick.open(domains=["outbox"], settings=settings) as tally,
            tally.session(work["tenant"], actor=f"{act.__name__}:{number}", permissions=("*",)) as db,
        ):
            await act(db, work, number, lambda line: os.write(notes, f"{line}\n".encode()))

    code = 1
    try:
        asyncio.run(run())
        code = 0
    except TallystickError as problem:
        os.write(notes, f"ended {type(problem).__name__}\n".encode())
    finally:
        os._exit(code)


def main(file: str) -> None:
    """Fork everybody, kill consumers at random and replace them, until there is a file ``stop``."""
    work = json.loads(Path(file).read_text())
    chance, place = random.Random(work["seed"]), Path(work["notes"])
    producers = {child(produce, work, n): n for n in range(work["producers"])}
    consumers = [child(consume, work, n) for n in range(work["consumers"])]
    number, kills, due = len(consumers), 0, time.monotonic() + work["gap"]
    while not (place / "stop").exists():
        time.sleep(0.02)
        for process in list(producers):
            if os.waitpid(process, os.WNOHANG)[0]:
                was = producers.pop(process)
                if "ended" in (place / f"produce.{was}.txt").read_text():
                    number += 1
                    producers[child(produce, work, number)] = number
        for at, process in enumerate(consumers):
            # One that could not even connect, because its backend was ended meanwhile.
            if os.waitpid(process, os.WNOHANG)[0]:
                number += 1
                consumers[at] = child(consume, work, number)
        if not producers:
            (place / "produced").touch()
        if time.monotonic() > due:
            at = chance.randrange(len(consumers))
            os.kill(consumers[at], signal.SIGKILL)
            os.waitpid(consumers[at], 0)
            number, kills, due = number + 1, kills + 1, time.monotonic() + work["gap"] * chance.uniform(0.5, 1.5)
            consumers[at] = child(consume, work, number)
            if kills >= work["kills"]:
                (place / "killed").touch()
    for process in [*consumers, *producers]:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    (place / "kills").write_text(str(kills))


if __name__ == "__main__":
    main(sys.argv[1])
