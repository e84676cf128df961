"""What both sample applications share: who the tokens are, and the bodies of their operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

import msgspec

from tallystick import LoginRefused, Money


@dataclass
class Tokens:
    """Stands for a signed token's claims, or a session store: what a request proves about who sends it."""

    known: dict[str, tuple[str, str, tuple[str, ...]]] = field(default_factory=dict)

    def issue(self, token: str, tenant: str, actor: str, *permissions: str) -> dict[str, str]:
        self.known[token] = (tenant, actor, permissions)
        return {"Authorization": f"Bearer {token}"}

    def of(self, request: Any) -> tuple[str, str, tuple[str, ...]]:
        found = self.known.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if found is None:
            raise LoginRefused("The request proves nothing about who sends it.")
        return found

    def tenant(self, request: Any) -> str:
        return self.of(request)[0]

    async def actor(self, request: Any) -> str:
        return self.of(request)[1]

    def permissions(self, request: Any) -> tuple[str, ...]:
        return self.of(request)[2]


class Repayment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment that came in."""

    amount: Money
    on: date | None = None


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why somebody wants to see what is sealed."""

    reason: Annotated[str, msgspec.Meta(min_length=3, max_length=200, pattern=r"^[ -~]*\S[ -~]*$")]


class Revealed(msgspec.Struct, frozen=True):
    """What was sealed."""

    value: str
