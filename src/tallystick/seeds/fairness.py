"""Flags that the monitor opens on the decisions of the seeds: the young are approved less often than others.

Nothing is made up here: the flags follow from what was decided. One stands for all decisions together, and one for the
model alone, which somebody looks into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallystick.seeds import Planted, scorecard

if TYPE_CHECKING:
    from tallystick.session import Session

ATTRIBUTES: Final = ("sex", "age_band")


async def plant(db: Session) -> Planted:
    """Let the monitor look at every attribute, for everybody and for the model; what it flagged already stays."""
    present, added = await db.fairness.count(), 0
    for attribute in ATTRIBUTES:
        added += len((await db.fairness.monitor(attribute)).opened)
        found = await db.fairness.monitor(attribute, model_version=scorecard.VERSION)
        for flag in found.opened:
            await db.fairness.acknowledge(flag)
        added += len(found.opened)
    return Planted(seed="fairness", tenant=db.tenant.slug, added=added, present=present)
