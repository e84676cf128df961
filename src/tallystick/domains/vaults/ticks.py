"""Ticks: the latest price of a feed applied to all the tenant's vaults, in one statement."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Length, Maintained, Once, Price
from tallystick.rules import Guard, Index, Readable, Rules, append_only


class PriceTick(Entity):
    """The latest shared price of a feed, applied to the tenant; adding the row is what applies it.

    The database fills in what was done: whether the price was newer than the applied one, and how many vaults were
    revalued, alerts raised and rules fired. A price that is not newer does nothing.
    """

    feed: Annotated[str, Length(32, min=1), Once()]
    quote: Annotated[str, Length(32, min=1), Once()] = "USD"
    applied_at: Annotated[datetime, Once()]
    applied: Annotated[bool, Maintained()] = False
    price: Annotated[Price | None, Maintained()] = None
    price_round: Annotated[ChainAmount | None, Maintained()] = None
    price_source: Annotated[str | None, Maintained()] = None
    priced_at: Annotated[datetime | None, Maintained()] = None
    vaults: Annotated[int, Maintained()] = 0
    alerts: Annotated[int, Maintained()] = 0
    firings: Annotated[int, Maintained()] = 0

    rules = Rules(
        Index("feed", "created_at", query="what was applied of a feed"),
        Guard("tally_tick", "BEFORE INSERT", "tally.vault_tick('price_tick')"),
        append_only(),
        retain="vaults",
        readable={"feed": Readable.CODE, "quote": Readable.CODE, "price_source": Readable.CODE},
    )
