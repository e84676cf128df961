"""Decisions: what was decided on an application, by which model or person, on what grounds; never changed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.reasons import GROUPS, DenialGroup, ReasonCode
from tallystick.entity import Entity
from tallystick.fields import Fraction, Length, Numeric, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only


class DecisionKind(StrEnum):
    """Who or what decided."""

    MODEL = "model"
    POLICY = "policy"
    MANUAL = "manual"
    OVERRIDE = "override"


class Outcome(StrEnum):
    """What was decided."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVIEW = "review"
    COUNTER_OFFER = "counter_offer"


OUTCOME_STATUS = {
    Outcome.APPROVED: ApplicationStatus.APPROVED,
    Outcome.DECLINED: ApplicationStatus.DECLINED,
    Outcome.REVIEW: ApplicationStatus.REVIEW,
    Outcome.COUNTER_OFFER: ApplicationStatus.COUNTER_OFFERED,
}


class Decision(Entity):
    """One decision on one application; at most one is final. A correction is a further decision.

    A final one alone brings the application to its outcome: the database does it when the row is added, with
    ``decided_at`` as the moment, and refuses the status to everybody else. Whoever signs (``decided_by``) is not the
    applicant; in a review it is neither who entered the application nor who decided on it before.

    ``risk_score`` is 0 to 1000, probabilities and confidence are fractions from 0 to 1. ``shap`` maps features to
    attributions that explain ``output_value`` from ``base_value``; the database refuses those that do not add up to it
    within a millionth. ``reasons`` are one to four, the weightiest first; a final decline has them, and what
    ``ReasonCode.OTHER`` stands for is in ``other_reason``.
    """

    application: Ref[Application]
    seq: int = 1
    kind: DecisionKind
    outcome: Outcome
    is_final: bool = True
    risk_score: int | None = None
    fraud_probability: Fraction | None = None
    identity_match: Fraction | None = None
    confidence: Fraction | None = None
    model_version: Annotated[str, Length(50)] | None = None
    feature_hash: bytes | None = None
    base_value: Annotated[Decimal, Numeric(18, 9)] | None = None
    output_value: Annotated[Decimal, Numeric(18, 9)] | None = None
    shap: dict[str, Any] | None = None
    risk_factors: list[Any] | None = None
    processing_time_ms: int | None = None
    decided_by: Ref[User] | None = None
    decided_at: datetime | None = None
    reasons: list[ReasonCode] | None = None
    other_reason: Annotated[str, Length(500, min=1)] | None = None

    rules = Rules(
        append_only(),
        Unique("application", "seq"),
        Unique("application", where="is_final", include=("risk_score",)),
        Check("risk_score", "risk_score is null or risk_score between 0 and 1000"),
        Check("fraud_probability", "fraud_probability is null or fraud_probability between 0 and 1"),
        Check("identity_match", "identity_match is null or identity_match between 0 and 1"),
        Check("confidence", "confidence is null or confidence between 0 and 1"),
        Check("seq", "seq >= 1"),
        Check("final_outcome", "not is_final or outcome in ('approved', 'declined')"),
        Check("model", "kind <> 'model' or model_version is not null"),
        Check("processing_time", "processing_time_ms is null or processing_time_ms >= 0"),
        Check("explained", "shap is null or (base_value is not null and output_value is not null)"),
        Check("reasons", "reasons is null or jsonb_array_length(reasons) between 1 and 4"),
        Check("reasons_of_decline", "not is_final or outcome <> 'declined' or reasons is not null"),
        Check("reasons_against", "reasons is null or outcome in ('declined', 'counter_offer')"),
        Check("other_reason", "coalesce(reasons @> '[\"other\"]'::jsonb, false) = (other_reason is not null)"),
        Guard(
            "tally_explained", "BEFORE INSERT", "tally.decision_explained('decision')", when='NEW."shap" IS NOT NULL'
        ),
        Guard(
            "tally_four_eyes",
            "BEFORE INSERT",
            "tally.decision_four_eyes('decision')",
            when='NEW."is_final" OR NEW."decided_by_id" IS NOT NULL',
        ),
        Guard(
            "tally_outcome",
            "AFTER INSERT",
            "tally.decision_outcome('decision')",
            when='NEW."is_final" OR NEW."outcome" = \'review\'',
        ),
        Guard("tally_reasons", "AFTER INSERT", "tally.decision_reasons('decision')", when='NEW."reasons" IS NOT NULL'),
        retain="lending",
        readable={
            "model_version": Readable.CODE,
            "feature_hash": Readable.DIGEST,
            "shap": Readable.BY_ID,
            "risk_factors": Readable.BY_ID,
            "reasons": Readable.BY_ID,
            "other_reason": Readable.BY_ID,
        },
    )


class DecisionReason(Entity):
    """One of the reasons of a decision; the database writes it from ``Decision.reasons``, for reports to count."""

    decision: Ref[Decision]
    rank: int
    code: ReasonCode

    rules = Rules(
        append_only(),
        Unique("decision", "rank"),
        Unique("decision", "code"),
        Index("code", "created_at", query="decisions of a period for a reason"),
        Check("rank", "rank between 1 and 4"),
        Guard(
            "tally_by_database",
            "AFTER INSERT",
            "tally.decision_by_database('decision_reason')",
            when="pg_trigger_depth() = 0",
        ),
        retain="lending",
    )

    @property
    def group(self) -> DenialGroup:
        """What HMDA reports it as."""
        return GROUPS[self.code]


class Decisions(Guarded[Decision]):
    """Decisions on the tenant's applications; add them through ``applications.decide``."""

    permission = "applications.decide"
    instead = "db.applications.decide()"
