"""``./run bench web``: requests in process, through ASGI, so that no socket hides the difference."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from benchmarks.arena import Arena, arena
from benchmarks.figures import TIME, Row, text_of
from benchmarks.runner import note
from benchmarks.table import TABLE, TWIN, Payment
from benchmarks.web.apps import ours, theirs
from tallystick import Settings, Tallystick
from tallystick.errors import TallystickError
from tallystick.settings import build_url

MISSED = 3
AIM = 0.8
"""The ratio to the other side's time at most."""
ROUND = 25


async def asked(app: Any, query: str) -> bytes:
    """One GET through ASGI; answers the body. Raises ``RuntimeError`` for anything but 200."""
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/payments", "raw_path": b"/payments", "query_string": query.encode(),
        "root_path": "", "headers": [(b"host", b"bench")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "state": {},
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        status, body = sent[0]["status"], sent[1].get("body", b"")
        raise RuntimeError(f"the application answered {status}: {body!r}")
    return b"".join(m.get("body", b"") for m in sent[1:])


async def measure(made: Arena, *, quick: bool) -> list[Row]:
    target, twin = made.target(TABLE), made.target(TWIN)
    url = build_url(
        host=target.host, port=target.port, user=target.user, password=target.password, database=target.database
    )
    settings = Settings(database_url=url, role_prefix=target.prefix, pool_max=1)
    engine = create_async_engine("postgresql+asyncpg://", connect_args=twin.asyncpg, pool_size=1, pool_pre_ping=False)
    try:
        async with Tallystick.open(entities=[Payment], domains=[], settings=settings) as tally:
            sides = (
                ours(tally, target.tenant_slug),
                theirs(async_sessionmaker(engine, expire_on_commit=False), twin.tenant),
            )
            rows = []
            for limit in (20, 100):
                query = f"status=posted&limit={limit}"
                bodies = [json.loads(await asked(side, query)) for side in sides]
                if [p["id"] for p in bodies[0]["items"]] != [p["id"] for p in bodies[1]["items"]]:
                    raise RuntimeError("the two sides do not answer the same rows")
                taken = await _in_turns(sides, query, rounds=8 if quick else 40)
                ratio = taken[0] / taken[1]
                rows.append(
                    Row(f"page of {limit}", TIME, *taken, ratio, most=AIM, beside="SQLAlchemy ORM and pydantic")
                )
            return rows
    finally:
        await engine.dispose()


async def _in_turns(sides: Sequence[Any], query: str, *, rounds: int) -> list[float]:
    samples: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 2):
        for side, found in zip(sides, samples, strict=True):
            for _ in range(ROUND):
                started = time.perf_counter_ns()
                await asked(side, query)
                if number > 1:
                    found.append((time.perf_counter_ns() - started) / 1_000)
    return [median(found) for found in samples]


def main(arguments: Sequence[str]) -> int:
    made = argparse.ArgumentParser(prog="python -m benchmarks web", description=__doc__)
    made.add_argument("--quick", action="store_true", help="fewer rounds over as many rows")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument("--url", help="a server to use instead of the embedded one, as a role that may create databases")
    options = made.parse_args(arguments)

    async def run() -> list[Row]:
        async with arena(options.url, durable=False, pin="off") as place:
            return await measure(place, quick=options.quick)

    try:
        rows = asyncio.run(run())
    except TallystickError as problem:
        note(str(problem))
        return 1
    print(text_of(rows))
    print("\nMedians of a request from ASGI to ASGI; the other side has no row-level security and six parameters.")
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": [row.as_json() for row in rows]}, indent=1))
    return 0 if all(row.reached for row in rows) else MISSED
