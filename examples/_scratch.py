"""Runs an example on an embedded server in a directory of its own, which is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` with TALLYSTICK_DATA_DIR naming an empty temporary directory, unless DATABASE_URL names a server."""
    with tempfile.TemporaryDirectory(prefix="tallystick-example-") as folder:
        os.chmod(folder, 0o711)  # under root the server runs as somebody else, who has to pass through
        os.environ["TALLYSTICK_DATA_DIR"] = folder
        asyncio.run(_awaited(main))


async def _awaited(main: Callable[[], Awaitable[None]]) -> None:
    await main()
