"""Evidence: the experiences a reputation is made of, stored as they were and never weighed in advance."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from tallystick.domains.identity.users import User
from tallystick.domains.reputation.scores import Score, ScoringCategory
from tallystick.entity import Entity
from tallystick.fields import Length, Numeric, Ref
from tallystick.rules import Check, Index, Readable, Rules, Unique, append_only

Weight = Annotated[Decimal, Numeric(18, 9)]
"""How much one experience counts; 1 is an ordinary one."""


class ReputationEvidence(Entity):
    """``count`` good or bad experiences with a user at one moment. A mistake is cancelled by a further row.

    ``external_id`` is what the source calls it: the same one is never counted twice for a user and category.
    """

    user: Ref[User]
    category: ScoringCategory = ScoringCategory.OVERALL
    good: bool
    count: int = 1
    weight: Weight = Decimal(1)
    observed_at: datetime
    external_id: Annotated[str, Length(200, min=1)] | None = None
    score: Ref[Score] | None = None
    cancels: Ref[ReputationEvidence] | None = None
    reason: Annotated[str, Length(500, min=1)] | None = None

    rules = Rules(
        append_only(),
        Unique("user", "category", "external_id", where="external_id is not null"),
        Unique("cancels", where="cancels_id is not null"),
        Index("user", "category", "observed_at", query="the experiences with a user, in order"),
        Check("count", "count between 1 and 1000000"),
        Check("weight", "weight > 0"),
        Check("cancels", "cancels_id is null or (cancels_id <> id and reason is not null)"),
        retain="scoring",
        readable={"external_id": Readable.CODE, "reason": Readable.NOTE},
    )
