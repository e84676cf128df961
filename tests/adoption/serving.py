"""The sample applications on a real server, in the event loop of the tests, on a port of the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
        running = asyncio.create_task(server.serve(sockets=[taken]))
        try:
            async with asyncio.timeout(30):
                while not server.started:
                    if running.done():
                        raise AssertionError("the server did not start") from running.exception()
                    await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
