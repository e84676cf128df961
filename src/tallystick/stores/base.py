"""What a store must do: the protocol that the repository speaks and every database answers.

A store moves rows. It knows shapes, tenants and transactions; what the values mean is the codec's business above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from datetime import timedelta

    from tallystick.codec import Codec
    from tallystick.conditions import Query
    from tallystick.spec import EntitySpec, IndexSpec

Isolation = Literal["read committed", "repeatable read", "serializable"]
Row = Sequence[Any]


class Unit(Protocol):
    """One tenant and one actor on a store, with at most one open transaction.

    Every method raises the errors of ``tallystick.errors`` only. Reads and single writes outside a transaction
    commit by themselves.
    """

    tenant: UUID
    actor: str
    reason: str | None
    request: str | None
    outer: int
    """How many of the levels are somebody else's to end: 1 in a transaction that was joined, else 0."""

    @property
    def depth(self) -> int:
        """0 outside a transaction, 1 inside, also of one that was joined, more inside savepoints."""
        ...

    async def get(self, codec: Codec, id: UUID) -> Row | None:
        """The row of an id."""
        ...

    async def select(self, codec: Codec, query: Query) -> list[Row]:
        """The rows of a query."""
        ...

    async def count(self, codec: Codec, query: Query) -> int:
        """How many rows match."""
        ...

    async def exists(self, codec: Codec, query: Query) -> bool:
        """Whether any row matches."""
        ...

    async def insert(self, codec: Codec, params: list[Any]) -> Row:
        """Write one row; answers its stamps (version, created at and by, updated at and by)."""
        ...

    async def insert_many(self, codec: Codec, rows: Sequence[list[Any]]) -> Row:
        """Write all rows or none; answers their common stamps."""
        ...

    async def upsert(self, codec: Codec, rule: IndexSpec, params: list[Any]) -> Row | None:
        """Write or replace by a unique rule; answers the whole row, or None when sealed values are for another id."""
        ...

    async def id_by_rule(self, codec: Codec, rule: IndexSpec, params: list[Any]) -> UUID | None:
        """The id of the row that holds a unique rule's values."""
        ...

    async def update(self, codec: Codec, columns: Mapping[str, Any], id: UUID, version: int) -> Row | None:
        """Change columns if the version still stands; answers the stamps, or None."""
        ...

    async def update_where(self, codec: Codec, query: Query, columns: Mapping[str, Any]) -> int:
        """Change columns of every matching row."""
        ...

    async def delete_where(self, codec: Codec, query: Query, reason: str) -> int:
        """Remove every matching row."""
        ...

    async def claim(self, codec: Codec, limit: int, lease: timedelta, token: UUID) -> list[Row]:
        """Lease free work items; each row ends with its number of attempts."""
        ...

    async def settle(self, codec: Codec, id: UUID, token: UUID, *, done: bool) -> bool:
        """End a lease; False when it was not this worker's any more."""
        ...

    async def fetch(self, statement: Any) -> list[Mapping[str, Any]]:
        """Run the application's own read inside the tenant's wall."""
        ...

    async def explain(
        self, codec: Codec | None, asked: Any, *, analyze: bool
    ) -> tuple[Mapping[str, Any], Mapping[str, float]]:
        """The plan of a query of an entity, or of a statement of the application's own, as PostgreSQL's JSON has it.

        Also how many rows the tables in it have. It may hold values: only ``tallystick.plan`` reads it. With
        ``analyze`` the statement is run, in a transaction that can write nothing and is rolled back.
        """
        ...

    async def call(self, sql: str, args: Sequence[Any], spec: EntitySpec | None = None) -> list[Row]:
        """Run one of the library's own statements for this tenant; errors speak of the entity of ``spec``."""
        ...

    async def change(self, sql: str, args: Sequence[Any], spec: EntitySpec | None = None) -> list[Row]:
        """Run one of the library's own writing statements, which the audit log then knows the actor of."""
        ...

    async def begin(self, isolation: Isolation | None, *, read_only: bool) -> None:
        """Open a transaction, or a savepoint inside one."""
        ...

    async def commit(self) -> None:
        """Commit, or release the savepoint. Raises ``CommitUnknown`` when the outcome is not known."""
        ...

    async def rollback(self) -> None:
        """Undo the transaction, or back to the savepoint."""
        ...


class Store(Protocol):
    """A database that rows are in, reached with the application's rights."""

    def unit(self, tenant: UUID, actor: str, reason: str | None = None, request: str | None = None) -> Unit:
        """A unit for one tenant and actor, and why it acts; opening it costs nothing."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
