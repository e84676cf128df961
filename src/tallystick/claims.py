"""A claimed work item: a value held under a lease."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar
from uuid import UUID

from tallystick.errors import LeaseLost

if TYPE_CHECKING:
    from tallystick.codec import Codec
    from tallystick.session import Session

E = TypeVar("E")


class Claimed(Generic[E]):
    """One work item of this worker. Enter it to work: normal exit marks it done, an exception gives it back.

    ``attempt`` counts claims of the item, this one included, so a worker can set poison aside.
    """

    __slots__ = ("_codec", "_db", "_token", "attempt", "value")

    def __init__(self, db: Session, codec: Codec, value: E, token: UUID, attempt: int) -> None:
        self._db = db
        self._codec = codec
        self._token = token
        self.value = value
        self.attempt = attempt

    @property
    def token(self) -> UUID:
        """What the lease is held by; the items of one claim share it."""
        return self._token

    async def done(self) -> None:
        """Mark the item done for good. Raises ``LeaseLost`` when the lease ran out and somebody else has it."""
        if not await self._settle(done=True):
            raise LeaseLost(f"The lease on this {self._codec.spec.name} is over.", entity=self._codec.spec.name)

    async def release(self) -> None:
        """Give the item back; a lease that is already lost is no error."""
        await self._settle(done=False)

    async def _settle(self, *, done: bool) -> bool:
        id: UUID = self.value.id  # type: ignore[attr-defined]
        return await self._db.unit.settle(self._codec, id, self._token, done=done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.done() if kind is None else self.release())
