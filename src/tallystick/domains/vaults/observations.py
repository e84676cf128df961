"""What others say a vault's LTV and health factor are, beside what the database derives."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from tallystick.domains.vaults.vaults import Vault
from tallystick.entity import Entity
from tallystick.fields import Length, Maintained, Once, Rate, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only


class VaultObservation(Entity):
    """An LTV and a health factor that somebody observed, in hundred-millionths; the derived ones stand beside them.

    ``mismatch`` says that either differs by more than ``tolerance``. Observations change nothing.
    """

    vault: Annotated[Ref[Vault], Once()]
    source: Annotated[str, Length(80, min=1), Once()]
    observed_at: Annotated[datetime, Once()]
    block: Annotated[int | None, Once()] = None
    ltv: Annotated[int | None, Once()] = None
    health: Annotated[int | None, Once()] = None
    tolerance: Annotated[Rate, Once()] = Decimal("0.005")
    details: Annotated[dict[str, Any], Once()] = msgspec.field(default_factory=dict)
    derived_ltv: Annotated[int | None, Maintained()] = None
    derived_health: Annotated[int | None, Maintained()] = None
    mismatch: Annotated[bool, Maintained()] = False

    rules = Rules(
        Unique("vault", "source", "observed_at"),
        Index("vault", "observed_at", query="what was observed of a vault"),
        Index("observed_at", query="observations that differ from what is derived", where="mismatch"),
        Check("tolerance", "tolerance >= 0"),
        Guard("tally_observe", "BEFORE INSERT", "tally.vault_observe('vault_observation')"),
        append_only(),
        retain="vaults",
        readable={"source": Readable.CODE, "details": Readable.TERMS},
    )
