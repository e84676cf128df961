"""What the parts of the suite share: sessions of fresh tenants, and the skipping of what is declared unsupported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest
import pytest_asyncio

from tallystick.entity import spec_of
from tallystick.testing.conformance.capabilities import Capability
from tallystick.testing.conformance.entities import ENTITIES
from tallystick.testing.factories import Make

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.session import Session


class Base:
    """The fixtures of the suite. Every test works in tenants of its own, with sessions that commit."""

    unsupported: ClassVar[frozenset[Capability]] = frozenset()
    """What the store declares that it cannot do."""

    entities: ClassVar[tuple[type[Entity], ...]] = ENTITIES
    """Entities that the tests of the verbs run over; add your own."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run tests that ask for ``entity`` over every entity."""
        if "entity" in metafunc.fixturenames:
            metafunc.parametrize("entity", self.entities, ids=lambda e: e.__name__)

    @pytest.fixture(autouse=True)
    def _declared(self, request: pytest.FixtureRequest) -> None:
        wanted = {c for marker in request.node.iter_markers("tally_needs") for c in marker.args}
        lacking = wanted & self.unsupported
        if lacking:
            pytest.skip(f"declared unsupported, and its refusal is tested: {', '.join(sorted(lacking))}")

    @pytest_asyncio.fixture(loop_scope="session")
    async def tenant(self, store_app: Any) -> str:
        """A tenant of this test's own."""
        slug = f"conformance-{uuid4().hex}"
        await store_app.tenants.create(slug, name="Conformance")
        return slug

    @pytest_asyncio.fixture(loop_scope="session")
    async def db(self, store_app: Any, tenant: str) -> AsyncIterator[Session]:
        """A session that commits."""
        async with store_app.session(tenant, actor="conformance", permissions=("*",)) as session:
            yield session

    @pytest_asyncio.fixture(loop_scope="session")
    async def again(self, store_app: Any, tenant: str) -> AsyncIterator[Session]:
        """A second session of the same tenant."""
        async with store_app.session(tenant, actor="again", permissions=("*",)) as session:
            yield session

    @pytest_asyncio.fixture(loop_scope="session")
    async def other(self, store_app: Any) -> AsyncIterator[Session]:
        """A session of another tenant."""
        slug = f"conformance-other-{uuid4().hex}"
        await store_app.tenants.create(slug, name="Other")
        async with store_app.session(slug, actor="other", permissions=("*",)) as session:
            yield session

    @pytest.fixture
    def make(self, db: Session, request: pytest.FixtureRequest) -> Make:
        """Factories that store through ``db``."""
        return Make(db, seed=request.node.name)


def values_of(entity: Entity) -> dict[str, Any]:
    """Every field of an entity with its value, for comparing two readings field by field."""
    return {name: getattr(entity, name) for name in spec_of(type(entity)).fields}
