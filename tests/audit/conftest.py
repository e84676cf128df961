"""A sealed database for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest_asyncio
from tests.audit.ground import SealedGround, sealed_ground

from tallystick.testing import KitServer


@pytest_asyncio.fixture(loop_scope="session")
async def sealed(tally_server: KitServer, tmp_path: Path) -> AsyncIterator[SealedGround]:
    async with sealed_ground(tally_server, tmp_path, uuid4().hex[:8]) as made:
        yield made
