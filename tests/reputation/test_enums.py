"""Every enum and filter that the fourth source names."""

from __future__ import annotations

from enum import StrEnum

import pytest

from tallystick import (
    BehaviorInput,
    BehaviorSession,
    Entity,
    InputSource,
    InputType,
    Invalid,
    Proof,
    ProofProtocol,
    ProofType,
    ReputationRecord,
    ReputationStatus,
    Score,
    ScoringCategory,
    ScoringPeriod,
    SessionStatus,
    SessionType,
    User,
    UserStatus,
    VerificationStatus,
    uuid7,
)
from tallystick.domains.proofs.circuits import Circuit, VerifyingKey
from tallystick.session import Session

ENUMS: list[tuple[type[StrEnum], type[Entity], str]] = [
    (UserStatus, User, "status"),
    (SessionType, BehaviorSession, "type"),
    (SessionStatus, BehaviorSession, "status"),
    (InputType, BehaviorInput, "type"),
    (InputSource, BehaviorInput, "source"),
    (ProofType, Circuit, "type"),
    (ProofProtocol, VerifyingKey, "protocol"),
    (VerificationStatus, Proof, "status"),
    (ScoringCategory, Score, "category"),
    (ScoringPeriod, ReputationRecord, "period"),
    (ReputationStatus, ReputationRecord, "status"),
]
_CHECK = (
    "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid "
    "WHERE $1::uuid IS NOT NULL AND t.relname = $2 AND c.conname = $3"
)


@pytest.mark.parametrize(("enum", "entity", "field"), ENUMS, ids=lambda v: getattr(v, "__name__", v))
async def test_every_enum_that_is_named_is_there_and_the_database_knows_its_values(
    db: Session, enum: type[StrEnum], entity: type[Entity], field: str
):
    table = db[entity].spec.table
    ((said,),) = await db.unit.call(_CHECK, (db.tenant_id, table, f"ck_{table}_{field}"))
    for member in enum:
        assert f"'{member.value}'" in said


async def test_every_filter_that_is_named_decodes(db: Session):
    someone = str(uuid7())
    filters = [
        BehaviorInput.Filter.parse(
            {
                "user": someone,
                "session": someone,
                "client_session": "s1",
                "type": "defi",
                "source": "api",
                "processed_at_missing": "false",
                "occurred_at_from": "2026-03-02T00:00:00Z",
                "occurred_at_to": "2026-03-03T00:00:00Z",
            }
        ),
        ReputationRecord.Filter.parse(
            {"user": someone, "category": "credit", "period": "weekly", "status": "active", "score_from": "500"}
        ),
        Proof.Filter.parse({"user": someone, "circuit": someone, "status_in": "verified,consumed", "scope": "loan"}),
    ]
    for one, repository in zip(filters, (db.inputs, db.reputation, db.proofs), strict=True):
        assert await repository.count(one) == 0
        page = await repository.page(one, limit=5, count=True)
        assert (page.items, page.total, page.has_next) == ([], 0, False)
    for wrong in ({"nobody": "1"}, {"type": "moon"}, {"user": "x"}):
        with pytest.raises(Invalid):
            BehaviorInput.Filter.parse(wrong)
