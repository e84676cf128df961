"""A sealer as a process of its own, which seals as fast as it can until it is killed: ``sealing.py WORK.json``."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

import asyncpg

from tallystick.audit.anchors import DirectoryAnchor
from tallystick.audit.seal_key import read_seal_key
from tallystick.audit.sealer import Sealer
from tallystick.clock import SystemClock
from tallystick.errors import Conflict
from tallystick.schema.roles import Roles
from tallystick.settings import connect_args


async def seal_for_good(url: str, key_file: Path, anchors: Path, prefix: str) -> None:
    """Small batches, so that there is much to be interrupted."""
    conn = await asyncpg.connect(**connect_args(url))
    try:
        sealer = Sealer(
            conn,
            key=read_seal_key(key_file),
            anchor=DirectoryAnchor(anchors),
            roles=Roles(prefix),
            clock=SystemClock(),
            batch=random.choice((3, 20, 150)),
        )
        while True:
            try:
                await sealer.run()
            except Conflict:
                await asyncio.sleep(0.02)
    finally:
        # No goodbye: what dies leaves its transaction to the server.
        conn.terminate()


if __name__ == "__main__":
    work = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(seal_for_good(work["url"], Path(work["key"]), Path(work["anchors"]), work["prefix"]))
