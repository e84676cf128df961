"""Repositories whose rows are written by the operations of their domain, and by hand only with a permission."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from tallystick.entity import Entity
from tallystick.errors import RoleMissing
from tallystick.repository import Repository, Where

E = TypeVar("E", bound=Entity)


class Guarded(Repository[E]):
    """A repository whose plain writing verbs ask for a permission.

    Its operations judge who may do what, and a plain ``update`` would go round them. ``permission`` is what it takes,
    ``instead`` the operations that everybody else uses. Reading is as everywhere.
    """

    permission: ClassVar[str]
    instead: ClassVar[str]

    async def add(self, entity: E) -> E:
        """``Repository.add``, with the permission."""
        await self._ask()
        return await super().add(entity)

    async def add_many(self, entities: Iterable[E]) -> list[E]:
        """``Repository.add_many``, with the permission."""
        await self._ask()
        return await super().add_many(entities)

    async def upsert(self, entity: E, *, on: Any) -> E:
        """``Repository.upsert``, with the permission."""
        await self._ask()
        return await super().upsert(entity, on=on)

    async def update(self, entity: E, /, **changes: Any) -> E:
        """``Repository.update``, with the permission."""
        await self._ask()
        return await super().update(entity, **changes)

    async def update_where(self, *where: Where, **changes: Any) -> int:
        """``Repository.update_where``, with the permission."""
        await self._ask()
        return await super().update_where(*where, **changes)

    async def purge(self, entity: E | UUID, *, reason: str) -> None:
        """``Repository.purge``, with the permission."""
        await self._ask()
        await super().purge(entity, reason=reason)

    async def purge_where(self, *where: Where, reason: str) -> int:
        """``Repository.purge_where``, with the permission."""
        await self._ask()
        return await super().purge_where(*where, reason=reason)

    async def _ask(self) -> None:
        try:
            await self.db.require(self.permission)
        except RoleMissing:
            pass
        else:
            return
        raise RoleMissing(
            f"Writing a {self.spec.name} by hand takes the permission {self.permission}.",
            remedy=f"Use {self.instead}, which judge by roles.",
        )


async def put(repository: Repository[E], entity: E) -> E:
    """Add an entity for an operation that has judged already."""
    return await Repository.add(repository, entity)


async def drop_where(repository: Repository[E], *where: Where, reason: str) -> int:
    """Remove every match for good, for an operation that has judged already; answers how many."""
    return await Repository.purge_where(repository, *where, reason=reason)


async def alter(repository: Repository[E], entity: E, /, **changes: Any) -> E:
    """Update an entity for an operation that has judged already."""
    return await Repository.update(repository, entity, **changes)
