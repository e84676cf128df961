"""What a run says beside its figures: the machine, the versions, the settings, and the tables of the extra parts."""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.arena import Arena
from benchmarks.runner import duration, grid
from benchmarks.table import ROWS, SCHEMA, TABLE, TENANTS

_PACKAGES = (
    "tallystick", "asyncpg", "msgspec", "advanced-alchemy", "sqlalchemy", "django", "psycopg", "sqlmodel",
    "tortoise-orm", "piccolo", "uvloop",
)  # fmt: skip
_SETTINGS = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "jit", "random_page_cost")


async def environment(arena: Arena, options: Namespace, skipped: dict[str, str]) -> dict[str, Any]:
    """Facts a reader needs to judge the figures; nothing that names the machine or its owner."""
    import asyncpg

    # As a subject sees it, because some settings belong to the database.
    conn = await asyncpg.connect(**arena.target(TABLE).asyncpg)
    try:
        settings = {name: await conn.fetchval(f"show {name}") for name in _SETTINGS}
    finally:
        await conn.close()
    columns = await arena.admin.fetchval(
        "select count(*) from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
        f"{SCHEMA}.{TABLE}",
    )
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "server": {**settings, "embedded": arena.embedded},
        "connection": "unix socket" if arena.target(TABLE).host.startswith("/") else "tcp",
        "pinned": arena.pinned,
        "loop": "uvloop" if options.uvloop else "asyncio",
        "garbage_collector": "on while timing; run before each batch, start-up frozen",
        "table": {"columns": columns, "rows": ROWS, "tenants": len(TENANTS)},
        "versions": versions,
        "quick": options.quick,
        "skipped": skipped,
        "samples": {},
    }


def beside_text(found: dict[str, Any]) -> list[str]:
    """The tables of tenants and round trips, where they were measured."""
    parts = []
    if found.get("tenants"):
        lines = [
            [
                str(row["tenants"]), row["subject"], f"{row['requests_per_s']:,}", duration(row["p50_us"]),
                duration(row["p99_us"]), f"{row['ratio']:.2f}",
            ]
            for row in found["tenants"]
        ]  # fmt: skip
        parts.append(
            "Tenants over a pool of 20, twenty requests at once, a fresh actor a request; one in five writes\n"
            + grid(["tenants", "way", "requests/s", "p50", "p99", "ratio"], lines)
        )
    if found.get("round_trips"):
        lines = [
            [row["operation"], row["subject"], f"{row['round_trips']:g}", duration(row["p50_us"])]
            for row in found["round_trips"]
        ]
        parts.append(
            "Round trips, and the median through a proxy that takes 0.5 ms each way\n"
            + grid(["operation", "subject", "round trips", "p50"], lines)
        )
    return parts


def foot(found: dict[str, Any]) -> str:
    """How to read the table, in a few lines."""
    about = found["environment"]
    server = about["server"]
    lines = []
    if found["rows"]:
        lines.append(
            "Ratio of medians to raw asyncpg on one held connection without row-level security; Tallystick has it on."
        )
    if any(row["operation"] == "page-500" for row in found["rows"]):
        ways: dict[str, list[str]] = {}
        for subject, way in about["paging"].items():
            ways.setdefault(way, []).append(subject)
        lines.append("page-500 by " + "; by ".join(f"{way}: {', '.join(names)}" for way, names in ways.items()) + ".")
    whose = "embedded" if server["embedded"] else "given"
    lines.append(
        f"PostgreSQL {server['server_version']} ({whose}, {about['connection']}, "
        f"synchronous_commit {server['synchronous_commit']}), Python {about['python']}, {about['loop']}, "
        f"{about['cores']} cores, client and server {_PINNED[about['pinned']]}."
    )
    lines += [f"Skipped {name}: {remedy}." for name, remedy in about["skipped"].items()]
    return "\n".join(lines)


_PINNED = {
    "apart": "on cores of their own",
    "together": "on one core",
    "off": "where the scheduler puts them",
}
