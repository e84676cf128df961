"""A process that wraps a tenant's keys anew, to be killed: ``rewrapper.py FILE``.

FILE is JSON: the settings, the tenant, the root key, the key folder, the batch, a file for lines of progress, after how
much it waits for its end however late that comes, and, if a blind index is to be rotated instead, its field.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tallystick import LocalKeys, Settings, Tallystick
from tallystick.privacy import rotation


async def work(given: dict[str, Any]) -> None:
    notes = os.open(given["notes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def told(done: int, total: int) -> None:
        os.write(notes, f"{done} {total}\n".encode())
        if done >= given["halt"]:
            time.sleep(120)

    keys = LocalKeys(bytes.fromhex(given["root"]), folder=given["folder"])
    settings = Settings.load({}, **given["settings"])
    async with (
        Tallystick.open(domains=["identity"], settings=settings, keys=keys) as tally,
        tally.session(given["tenant"], actor="rewrapper", permissions=("keys.manage",)) as db,
    ):
        if "field" in given:
            await rotation.rotate_index(db, given["field"], batch=given["batch"], report=lambda _, rows: told(rows, 0))
        else:
            await rotation.rewrap(db, batch=given["batch"], report=told)
        os.write(notes, b"end\n")


if __name__ == "__main__":
    asyncio.run(work(json.loads(Path(sys.argv[1]).read_text())))
