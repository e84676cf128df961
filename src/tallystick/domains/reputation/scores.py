"""Scores: what a model made of a set of inputs, for somebody who agreed to it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from tallystick.domains.identity.consents import Consent, Purpose
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.domains.reputation.consented import agreed
from tallystick.domains.reputation.inputs import BehaviorInput
from tallystick.entity import UNSAVED, Entity, with_fields
from tallystick.errors import Invalid, UnknownReference
from tallystick.fields import Fraction, Length, Numeric, Ref
from tallystick.query import desc
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only

Output = Annotated[Decimal, Numeric(18, 9)]
"""The raw output of a model, or a part of it."""
_MOST_INPUTS = 100_000
_KNOWN = (
    "SELECT count(*) FROM tally.behavior_input b WHERE b.tenant_id = $1 AND b.user_id = $2 AND b.id = ANY ($3::uuid[])"
)
PURPOSES = (Purpose.CREDIT_CHECK, Purpose.AI_ANALYSIS)
"""What a person may have agreed to that allows a score."""


class ScoringCategory(StrEnum):
    """What a score or a reputation speaks of."""

    OVERALL = "overall"
    CREDIT = "credit"
    REPAYMENT = "repayment"
    DEFI = "defi"
    NFT = "nft"
    GOVERNANCE = "governance"
    SOCIAL = "social"
    IDENTITY = "identity"


class Score(Entity):
    """A scoring result: 0 to 1000, by one version of a model, on one set of inputs. Never changed.

    ``shap`` says what each feature added to ``base_value`` to make ``output_value``, the model's raw output (Lundberg
    and Lee 2017); base and attributions add up to it within a millionth. ``input_set`` is the hash of the inputs it was
    made of (``input_set_hash``); one model scores one set once for a category. Without it the score was made of
    something that is not stored here. ``confidence`` is a fraction.
    """

    user: Ref[User]
    category: ScoringCategory = ScoringCategory.CREDIT
    value: int
    model: Annotated[str, Length(64, min=1)]
    confidence: Fraction | None = None
    input_set: bytes | None = None
    input_count: int = 0
    base_value: Output | None = None
    output_value: Output | None = None
    shap: dict[str, Decimal] | None = None
    details: dict[str, Any] | None = None
    scored_at: datetime = UNSAVED
    consent: Ref[Consent] | None = None

    rules = Rules(
        append_only(),
        Unique("input_set", "model", "category", where="input_set is not null"),
        Index("user", "category", "scored_at", query="a user's scores of a category, newest first"),
        Index("model", "scored_at", query="scores of a model"),
        Check("value", "value between 0 and 1000"),
        Check("confidence", "confidence is null or confidence between 0 and 1"),
        Check("input_set", "input_set is null or octet_length(input_set) = 32"),
        Check("input_count", "input_count >= 0"),
        Check("consent", "consent_id is not null"),
        Check("shap", "(shap is null) = (base_value is null) and (shap is null) = (output_value is null)"),
        Guard("tally_explained", "BEFORE INSERT", "tally.score_explained('score')", when="NEW.shap IS NOT NULL"),
        Guard("tally_consented", "BEFORE INSERT", "tally.reputation_consented('score', 'credit_check,ai_analysis')"),
        retain="scoring",
        readable={
            "model": Readable.CODE,
            "input_set": Readable.DIGEST,
            "shap": Readable.BY_ID,
            "details": Readable.BY_ID,
        },
    )


class Scores(Repository[Score]):
    """Scores of the tenant's users; each stands behind a consent, which the database asks for again."""

    async def add(
        self, entity: Score, *, consent: Consent | None = None, inputs: Iterable[BehaviorInput | UUID] | None = None
    ) -> Score:
        """Store a score under the consent that the person gave before it was made.

        Run the model between ``db.consents.require(...)`` and this, outside a transaction: here the consent is asked
        for again and held until the score is stored. ``inputs`` are the inputs it was made of: one or more of the
        user's, in any order. Raises ``ConsentMissing`` when it was taken back meanwhile, ``Duplicate`` when the model
        scored this set before, ``UnknownReference`` for inputs that are not there, ``Invalid``.
        """
        self._check_kind(entity)
        changes: dict[str, Any] = {}
        ids = None if inputs is None else _ids(inputs)
        if ids is not None:
            changes |= {"input_set": _hash(ids), "input_count": len(ids)}
        if entity.scored_at == UNSAVED:
            changes["scored_at"] = self.db.now()
        async with self.db.transaction():
            changes["consent"] = await agreed(self.db, entity.user.id, consent, PURPOSES)
            if ids is not None:
                await self._check_inputs(entity.user.id, ids)
            return await super().add(with_fields(entity, **changes))

    async def latest(
        self, user: UserLike, category: ScoringCategory = ScoringCategory.CREDIT, *, model: str | None = None
    ) -> Score | None:
        """The newest score of a user in a category, of one model where it is named."""
        if category.__class__ is not ScoringCategory:
            names = ", ".join(f"ScoringCategory.{c.name}" for c in ScoringCategory)
            raise Invalid("That is no category.", field="category", remedy=f"Categories are: {names}.")
        where: list[Any] = [Score.user == Ref(user_id(user)), Score.category == category]
        if model is not None:
            where.append(Score.model == model)
        found = await self.find(*where, order=desc(Score.scored_at), limit=1)
        return found[0] if found else None

    async def _check_inputs(self, user: UUID, ids: list[UUID]) -> None:
        ((known,),) = await self.db.unit.call(_KNOWN, (self.db.tenant_id, user, ids), self.spec)
        if known != len(ids):
            raise UnknownReference(
                f"{len(ids) - known} of the inputs are not there, or not this user's.",
                entity="Score",
                remedy="Score a user by inputs of their own: db.inputs.of_user(user).",
            )


def input_set_hash(inputs: Iterable[BehaviorInput | UUID]) -> bytes:
    """The SHA-256 that stands for a set of inputs, whatever their order and however often one is named.

    Raises ``Invalid`` for no inputs, and for anything that is none.
    """
    return _hash(_ids(inputs))


def _ids(inputs: Any) -> list[UUID]:
    """The ids of a set of inputs, in order, each once."""
    try:
        given = [inputs] if isinstance(inputs, (BehaviorInput, UUID)) else list(inputs)
    except TypeError:
        given = [inputs]
    if not 0 < len(given) <= _MOST_INPUTS or not all(isinstance(i, (BehaviorInput, UUID)) for i in given):
        raise Invalid(
            f"A set of inputs is 1 to {_MOST_INPUTS:,} inputs or their ids.",
            field="inputs",
            entity="Score",
            remedy="Leave inputs= out for a score that was made of something else.",
        )
    return sorted({i if isinstance(i, UUID) else i.id for i in given})


def _hash(ids: list[UUID]) -> bytes:
    return sha256(b"tallystick input set 1\0" + b"".join(id.bytes for id in ids)).digest()
