"""The suite on a store that does less and says so: what it declares is refused, and all the rest still passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tallystick import Tallystick, Unsupported
from tallystick.stores.postgres.store import PostgresStore
from tallystick.stores.postgres.unit import PostgresUnit
from tallystick.testing.conformance import Capability
from tallystick.testing.conformance.transacting import Transactions


class _LesserUnit(PostgresUnit):
    __slots__ = ()

    async def claim(self, *_: Any) -> Any:
        raise Unsupported("This store has no queues.")

    async def fetch(self, *_: Any) -> Any:
        raise Unsupported("This store takes no statements.")

    async def begin(self, isolation: Any, *, read_only: bool) -> None:
        if read_only or isolation not in (None, "read committed"):
            raise Unsupported("This store has one isolation level.")
        await super().begin(isolation, read_only=read_only)


class _LesserStore(PostgresStore):
    def unit(self, tenant: Any, actor: str, *cause: Any) -> PostgresUnit:
        return _LesserUnit(self, tenant, actor, *cause)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store_app(tally: Tallystick) -> AsyncIterator[Tallystick]:
    settings = tally.settings
    async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as lesser:
        full = lesser.store
        assert settings.database_url is not None
        assert lesser._database is not None
        lesser._database.store = _LesserStore(settings.database_url, settings)
        yield lesser
        await full.close()


class TestLesser(Transactions):
    unsupported = frozenset({Capability.CLAIM, Capability.FETCH, Capability.READ_ONLY, Capability.ISOLATION})
