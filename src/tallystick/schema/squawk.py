"""Squawk, the linter for PostgreSQL migrations, where it is installed (``pip install squawk-cli``)."""

from __future__ import annotations

import asyncio
import shutil
import sys
from functools import cache
from pathlib import Path

import msgspec

from tallystick.errors import Unavailable
from tallystick.schema.safety import Hazard

# Matters of taste, what the runner does itself (timeouts, transactions), and what the library's own rules say better.
EXCLUDED = (
    "require-lock-timeout",
    "require-statement-timeout",
    "require-timeout-settings",
    "transaction-nesting",
    "ban-uncommitted-transaction",
    "prefer-robust-stmts",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-big-int",
    "prefer-identity",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "prefer-timestamptz",
    "require-concurrent-index-creation",
    "adding-required-field",
    "changing-column-type",
    "adding-not-nullable-field",
    "constraint-missing-not-valid",
    "adding-foreign-key-constraint",
    "ban-drop-default",
    "ban-drop-not-null",
    "ban-drop-constraint",
)
_INSTEAD = {
    "ban-drop-column": 'First a release whose code does not use it, then revision(..., delete=["table.column"]).',
    "ban-drop-table": 'First a release whose code does not use it, then revision(..., delete=["table"]).',
    "renaming-column": 'A second column with Backfill, or revision(..., rename={"table.column": "new"}) in a pause.',
    "renaming-table": "A new table and rows moved by ForEachTenant.",
    "require-concurrent-index-deletion": 'op.invoke(Undo(AddIndex("table", Index(...))))  # in a revision of its own',
    "adding-field-with-default": 'op.invoke(AddColumn("table", Column(...), fill="a constant"))',
}


class _Finding(msgspec.Struct):
    rule_name: str
    message: str
    line: int
    help: str | None = None


@cache
def binary() -> str | None:
    """Where squawk is, or None."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.is_file() else shutil.which("squawk")


async def judge(sql: str) -> list[Hazard]:
    """What squawk says about a revision's SQL, as a script with BEGIN and COMMIT; nothing when it is not installed.

    Raises ``Unavailable`` when it is installed and does not work: silence must not pass for a clean bill.
    """
    path = binary()
    if path is None or not sql.strip():
        return []
    process = await asyncio.create_subprocess_exec(
        path,
        "--reporter",
        "Json",
        "--pg-version",
        "15",
        "--stdin-filepath",
        "revision.sql",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate(sql.encode())
    try:
        found = msgspec.json.decode(output, type=list[_Finding])
    except msgspec.MsgspecError:
        found = None
    if found is None:
        raise Unavailable(
            "squawk is installed and gave no answer that can be read.",
            remedy="Reinstall it (pip install squawk-cli), or uninstall it to go without.",
        )
    return [
        Hazard(
            f.rule_name, f.message.rstrip("."), _INSTEAD.get(f.rule_name, f.help or "Split the change into safe steps.")
        )
        for f in found
        if f.rule_name not in EXCLUDED and not (f.rule_name == "renaming-object" and " index " in f.message)
    ]
