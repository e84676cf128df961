"""Agents: who runs vaults, and how credible they are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Json, Length, Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept


class CredibilityTier(StrEnum):
    """How credible an agent is, in steps."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    PLATINUM = "platinum"


class AgentStatus(StrEnum):
    """Whether an agent runs vaults."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


_S = AgentStatus


class Agent(Entity):
    """Who runs vaults: a person's, a desk's or a program's account, with a credibility from 0 to 1000.

    ``address`` is the account's on-chain address, 20 to 64 bytes. ``profile`` is a document of one's own, of which
    ``strategy`` can be filtered on.
    """

    name: Annotated[str, Length(200, min=1)]
    address: bytes | None = None
    user: Ref[User] | None = None
    tier: CredibilityTier = CredibilityTier.BRONZE
    credibility: int = 0
    status: AgentStatus = AgentStatus.ACTIVE
    profile: Annotated[dict[str, Any], Json(promote={"strategy": str})] = msgspec.field(default_factory=dict)

    rules = Rules(
        Unique("address"),
        Index("tier", "credibility", query="agents of a tier, by credibility"),
        Index("profile_strategy", query="agents by what they do"),
        Check("address_length", "octet_length(address) between 20 and 64"),
        Check("credibility", "credibility between 0 and 1000"),
        Transitions(
            "status",
            {_S.ACTIVE: [_S.SUSPENDED, _S.RETIRED], _S.SUSPENDED: [_S.ACTIVE, _S.RETIRED], _S.RETIRED: []},
            initial=[_S.ACTIVE],
        ),
        kept(),
        retain="vaults",
        readable={"name": Readable.CODE, "address": Readable.BY_ID, "profile": Readable.TERMS},
    )


class Agents(Repository[Agent]):
    """The tenant's agents."""
