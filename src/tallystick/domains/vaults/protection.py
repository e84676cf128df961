"""Protection rules: what is to be done for a vault when its health or LTV gets worse, at most once a cooldown."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.vaults.alerts import VaultMetric
from tallystick.domains.vaults.vaults import Vault
from tallystick.entity import Entity
from tallystick.fields import Maintained, Once, Rate, Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Queue, Readable, Rules, Unique, kept


class ProtectionKind(StrEnum):
    """What a rule asks for."""

    ALERT = "alert"
    REPAY = "repay"
    TOP_UP = "top_up"
    UNWIND = "unwind"


class ProtectionRule(Entity):
    """Do something for a vault when its LTV reaches ``threshold``, or its health factor falls to it.

    It fires once in ``cooldown`` seconds, however many monitors apply prices; ``last_fired_at`` is the database's.
    ``action`` says what to do to whoever takes the firing.
    """

    vault: Annotated[Ref[Vault], Once()]
    kind: ProtectionKind = ProtectionKind.ALERT
    metric: VaultMetric
    threshold: Rate
    cooldown: int = 3_600
    enabled: bool = True
    action: dict[str, Any] = msgspec.field(default_factory=dict)
    last_fired_at: Annotated[datetime | None, Maintained()] = None

    rules = Rules(
        Index("vault", query="rules that may fire for a vault", where="enabled"),
        Check("threshold", "threshold > 0"),
        Check("cooldown", "cooldown between 0 and 315360000"),
        kept(),
        retain="vaults",
        readable={"action": Readable.TERMS},
    )


class ProtectionRules(Repository[ProtectionRule]):
    """The protection rules of the tenant's vaults."""


class RuleFiring(Entity):
    """A rule that fired: work for whoever protects vaults, claimed with ``db[RuleFiring].claim()``.

    ``price_key`` names the price that made it fire, by round where there is one and by time else; one price fires a
    rule once. ``observed`` is the metric then, in hundred-millionths.
    """

    rule: Annotated[Ref[ProtectionRule], Once()]
    vault: Annotated[Ref[Vault], Once()]
    tick: Annotated[UUID, Once()]
    price_key: Annotated[str, Once()]
    observed: Annotated[int, Once()]
    fired_at: Annotated[datetime, Once()]

    rules = Rules(
        Unique("rule", "price_key"),
        Index("vault", "fired_at", query="what fired for a vault"),
        Guard(
            "tally_by_database",
            "AFTER INSERT",
            "tally.vault_by_database('rule_firing')",
            when="pg_trigger_depth() = 0",
        ),
        Queue(),
        kept(),
        retain="vaults",
        readable={"price_key": Readable.CODE},
    )
