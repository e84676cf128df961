"""loan applications and decisions

Revision underwriting_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "underwriting_0001"
down_revision = None
branch_labels = ("underwriting",)
depends_on = ["kit_0003", "identity_0001"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# Where several people look at an application, none of them decides on it twice, or on their own. The application is
# locked before its final decision is there, as by everybody who decides: two who come by other ways do not deadlock.
FOUR_EYES = """
CREATE FUNCTION tally.decision_four_eyes() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF NEW.is_final THEN
    PERFORM FROM tally.application a WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.application_id
    FOR NO KEY UPDATE;
  END IF;
  IF EXISTS (SELECT FROM tally.application a WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.application_id
      AND (a.applicant_id = NEW.decided_by_id
        OR NEW.is_final AND a.status = 'review' AND (a.created_by = 'user:' || NEW.decided_by_id
          OR EXISTS (SELECT FROM tally.decision d WHERE d.tenant_id = a.tenant_id AND d.application_id = a.id
            AND d.kind IN ('manual', 'override') AND d.decided_by_id = NEW.decided_by_id)))) THEN
    RAISE EXCEPTION 'four eyes are missing on %', TG_ARGV[0] USING ERRCODE = 'TS712', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

OUTCOME = """
CREATE FUNCTION tally.decision_outcome() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF NEW.is_final THEN
    UPDATE tally.application a SET status = NEW.outcome, decided_at = coalesce(NEW.decided_at, now())
    WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.application_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the application of a % was not found', TG_ARGV[0] USING ERRCODE = '23503', TABLE = TG_ARGV[0],
        CONSTRAINT = 'fk_decision_application';
    END IF;
  ELSE
    UPDATE tally.application a SET status = 'review'
    WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.application_id AND a.status = 'scoring';
  END IF;
  RETURN NULL;
END $f$"""

FUNCTIONS = {
    FOUR_EYES: "tally.decision_four_eyes()",
    OUTCOME: "tally.decision_outcome()",
}

APPLICATION = Table(
    "application",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("applicant_id", "uuid", nullable=True),
        Column("product", 'text COLLATE "C"', nullable=True),
        Column("stripe_account_id", 'text COLLATE "C"', nullable=True),
        Column("plaid_verification_id", 'text COLLATE "C"', nullable=True),
        Column("duoplus_device_id", 'text COLLATE "C"', nullable=True),
        Column("blockchain_tx_hash", 'text COLLATE "C"', nullable=True),
        Column("full_legal_name", "bytea"),
        Column("ssn", "bytea"),
        Column("ssn_bidx", "bytea", nullable=True),
        Column("ssn_bidx_next", "bytea", nullable=True),
        Column("ssn_bidx_last4", "bytea", nullable=True),
        Column("ssn_bidx_last4_next", "bytea", nullable=True),
        Column("ssn_mask", "bytea"),
        Column("annual_income", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("employment_status", 'text COLLATE "C"'),
        Column("requested_amount", "bigint", nullable=True),
        Column("requested_months", "bigint", nullable=True),
        Column("purpose", 'text COLLATE "C"', nullable=True),
        Column("credit_score", "bytea", nullable=True),
        Column("email", "bytea", nullable=True),
        Column("email_bidx", "bytea", nullable=True),
        Column("email_bidx_next", "bytea", nullable=True),
        Column("phone", "bytea", nullable=True),
        Column("phone_bidx", "bytea", nullable=True),
        Column("phone_bidx_next", "bytea", nullable=True),
        Column("phone_bidx_last4", "bytea", nullable=True),
        Column("phone_bidx_last4_next", "bytea", nullable=True),
        Column("address", "bytea", nullable=True),
        Column("identity_verification", "bytea", nullable=True),
        Column("credit_report", "bytea", nullable=True),
        Column("kyc_documents", "bytea", nullable=True),
        Column("ip_address", "bytea", nullable=True),
        Column("user_agent", "bytea", nullable=True),
        Column("device_fingerprint", "bytea", nullable=True),
        Column("monitoring", "jsonb"),
        Column("monitoring_sex", 'text COLLATE "C"', nullable=True, generated="monitoring ->> 'sex'"),
        Column("monitoring_age_band", 'text COLLATE "C"', nullable=True, generated="monitoring ->> 'age_band'"),
        Column("status", 'text COLLATE "C"'),
        Column("submitted_at", "timestamp with time zone", nullable=True),
        Column("decided_at", "timestamp with time zone", nullable=True),
        Column("expires_at", "timestamp with time zone", nullable=True),
        Column("idempotency_key", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_application_product_length", "char_length(product) between 0 and 255"),
        Check("ck_application_stripe_account_id_length", "char_length(stripe_account_id) between 0 and 255"),
        Check("ck_application_plaid_verification_id_length", "char_length(plaid_verification_id) between 0 and 255"),
        Check("ck_application_duoplus_device_id_length", "char_length(duoplus_device_id) between 0 and 255"),
        Check("ck_application_blockchain_tx_hash_length", "char_length(blockchain_tx_hash) between 0 and 255"),
        Check(
            "ck_application_employment_status",
            "employment_status in ('employed', 'self_employed', 'unemployed', 'retired', 'student', 'other')",
        ),
        Check("ck_application_requested_amount_asset", "requested_amount is null or asset is not null"),
        Check("ck_application_purpose_length", "char_length(purpose) between 0 and 255"),
        Check(
            "ck_application_status",
            (
                "status in ('created', 'submitted', 'verifying', 'incomplete', 'scoring', 'review', "
                "'counter_offered', 'approved', 'declined', 'withdrawn', 'expired')"
            ),
        ),
        Check("ck_application_idempotency_key_length", "char_length(idempotency_key) between 0 and 255"),
        Check("ck_application_asset", "char_length(asset) between 2 and 32"),
        Check("ck_application_income", "annual_income >= 0"),
        Check("ck_application_requested_amount", "requested_amount is null or requested_amount > 0"),
        Check("ck_application_requested_months", "requested_months is null or requested_months between 1 and 600"),
        Check("ck_application_decided", "(decided_at is not null) = (status in ('approved', 'declined'))"),
    ),
    foreign_keys=(
        ForeignKey("fk_application_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_application_applicant", ("tenant_id", "applicant_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_application_idempotency_key", ("tenant_id", "idempotency_key"), unique=True),
        Index(
            "ix_application_status_created_at",
            ("tenant_id", "status", "created_at", "id"),
            comment="the application queue, a status at a time, newest first",
        ),
        Index("ix_application_created_at", ("tenant_id", "created_at", "id"), comment="applications of a period"),
        Index(
            "ix_application_stripe_account_id",
            ("tenant_id", "stripe_account_id", "id"),
            where="stripe_account_id is not null",
            comment="applications of a Stripe account",
        ),
        Index(
            "ix_application_expires_at",
            ("tenant_id", "expires_at", "id"),
            where="(status = 'incomplete')",
            comment="incomplete applications that run out",
        ),
        Index("ix_application_applicant_id", ("tenant_id", "applicant_id", "id"), comment="rows of one applicant"),
        Index("ix_application_ssn_bidx", ("tenant_id", "ssn_bidx", "id"), comment="find by ssn"),
        Index("ix_application_ssn_bidx_next", ("tenant_id", "ssn_bidx_next", "id"), comment="find by ssn"),
        Index("ix_application_ssn_bidx_last4", ("tenant_id", "ssn_bidx_last4", "id"), comment="find by ssn_last4"),
        Index(
            "ix_application_ssn_bidx_last4_next",
            ("tenant_id", "ssn_bidx_last4_next", "id"),
            comment="find by ssn_last4",
        ),
        Index("ix_application_email_bidx", ("tenant_id", "email_bidx", "id"), comment="find by email"),
        Index("ix_application_email_bidx_next", ("tenant_id", "email_bidx_next", "id"), comment="find by email"),
        Index("ix_application_phone_bidx", ("tenant_id", "phone_bidx", "id"), comment="find by phone"),
        Index("ix_application_phone_bidx_next", ("tenant_id", "phone_bidx_next", "id"), comment="find by phone"),
        Index(
            "ix_application_phone_bidx_last4",
            ("tenant_id", "phone_bidx_last4", "id"),
            comment="find by phone_last4",
        ),
        Index(
            "ix_application_phone_bidx_last4_next",
            ("tenant_id", "phone_bidx_last4_next", "id"),
            comment="find by phone_last4",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR UPDATE OR DELETE",
            (
                "tally_audit.capture('application', 'ssn_bidx', 'ssn_bidx_next', 'ssn_bidx_last4', "
                "'ssn_bidx_last4_next', 'email_bidx', 'email_bidx_next', 'phone_bidx', 'phone_bidx_next', "
                "'phone_bidx_last4', 'phone_bidx_last4_next')"
            ),
        ),
        Trigger(
            "tally_indexed",
            "BEFORE INSERT OR UPDATE",
            (
                "tally.indexed('application', 'ssn_bidx', 'ssn_bidx_last4', 'email_bidx', 'phone_bidx', "
                "'phone_bidx_last4')"
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_sealed",
            "BEFORE INSERT OR UPDATE",
            (
                "tally.sealed_live('full_legal_name', 'ssn', 'ssn_mask', 'credit_score', 'email', 'phone', "
                "'address', 'identity_verification', 'credit_report', 'kyc_documents', 'ip_address', 'user_agent', "
                "'device_fingerprint')"
            ),
        ),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('application', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['created']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('application', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'created\' AND NEW."status" = '
                "ANY (ARRAY['submitted', 'withdrawn'])) OR (OLD.\"status\" = 'submitted' AND NEW.\"status\" = "
                "ANY (ARRAY['verifying', 'incomplete', 'withdrawn'])) OR (OLD.\"status\" = 'incomplete' AND "
                "NEW.\"status\" = ANY (ARRAY['submitted', 'withdrawn', 'expired'])) OR (OLD.\"status\" = "
                "'verifying' AND NEW.\"status\" = ANY (ARRAY['scoring', 'incomplete', 'withdrawn'])) OR "
                "(OLD.\"status\" = 'scoring' AND NEW.\"status\" = ANY (ARRAY['approved', 'declined', 'review', "
                "'withdrawn'])) OR (OLD.\"status\" = 'review' AND NEW.\"status\" = ANY (ARRAY['approved', "
                "'declined', 'counter_offered', 'withdrawn'])) OR (OLD.\"status\" = 'counter_offered' AND "
                "NEW.\"status\" = ANY (ARRAY['approved', 'withdrawn', 'expired'])) OR (OLD.\"status\" IS NULL "
                "AND NEW.\"status\" = ANY (ARRAY['created']))) IS NOT TRUE"
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "applicant_id",
                "product",
                "stripe_account_id",
                "plaid_verification_id",
                "duoplus_device_id",
                "blockchain_tx_hash",
                "full_legal_name",
                "ssn",
                "ssn_bidx",
                "ssn_bidx_next",
                "ssn_bidx_last4",
                "ssn_bidx_last4_next",
                "ssn_mask",
                "annual_income",
                "asset",
                "employment_status",
                "requested_amount",
                "requested_months",
                "purpose",
                "credit_score",
                "email",
                "email_bidx",
                "email_bidx_next",
                "phone",
                "phone_bidx",
                "phone_bidx_next",
                "phone_bidx_last4",
                "phone_bidx_last4_next",
                "address",
                "identity_verification",
                "credit_report",
                "kyc_documents",
                "ip_address",
                "user_agent",
                "device_fingerprint",
                "monitoring",
                "status",
                "submitted_at",
                "decided_at",
                "expires_at",
                "idempotency_key",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "product",
                "stripe_account_id",
                "plaid_verification_id",
                "duoplus_device_id",
                "blockchain_tx_hash",
                "full_legal_name",
                "ssn",
                "ssn_bidx",
                "ssn_bidx_next",
                "ssn_bidx_last4",
                "ssn_bidx_last4_next",
                "ssn_mask",
                "annual_income",
                "asset",
                "employment_status",
                "requested_amount",
                "requested_months",
                "purpose",
                "credit_score",
                "email",
                "email_bidx",
                "email_bidx_next",
                "phone",
                "phone_bidx",
                "phone_bidx_next",
                "phone_bidx_last4",
                "phone_bidx_last4_next",
                "address",
                "identity_verification",
                "credit_report",
                "kyc_documents",
                "ip_address",
                "user_agent",
                "device_fingerprint",
                "monitoring",
                "status",
                "submitted_at",
                "expires_at",
                "idempotency_key",
            ),
        ),
        Grant("app", "DELETE"),
    ),
    comment=(
        "A request for credit. Decisions on it are rows of their own, so re-scoring never overwrites what was decided."
    ),
)

DECISION = Table(
    "decision",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("application_id", "uuid"),
        Column("seq", "bigint"),
        Column("kind", 'text COLLATE "C"'),
        Column("outcome", 'text COLLATE "C"'),
        Column("is_final", "boolean"),
        Column("risk_score", "bigint", nullable=True),
        Column("fraud_probability", "numeric(9,6)", nullable=True),
        Column("identity_match", "numeric(9,6)", nullable=True),
        Column("confidence", "numeric(9,6)", nullable=True),
        Column("model_version", 'text COLLATE "C"', nullable=True),
        Column("feature_hash", "bytea", nullable=True),
        Column("base_value", "numeric(18,9)", nullable=True),
        Column("output_value", "numeric(18,9)", nullable=True),
        Column("shap", "jsonb", nullable=True),
        Column("risk_factors", "jsonb", nullable=True),
        Column("processing_time_ms", "bigint", nullable=True),
        Column("decided_by_id", "uuid", nullable=True),
        Column("decided_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_decision_kind", "kind in ('model', 'policy', 'manual', 'override')"),
        Check("ck_decision_outcome", "outcome in ('approved', 'declined', 'review', 'counter_offer')"),
        Check("ck_decision_model_version_length", "char_length(model_version) between 0 and 50"),
        Check("ck_decision_risk_score", "risk_score is null or risk_score between 0 and 1000"),
        Check("ck_decision_fraud_probability", "fraud_probability is null or fraud_probability between 0 and 1"),
        Check("ck_decision_identity_match", "identity_match is null or identity_match between 0 and 1"),
        Check("ck_decision_confidence", "confidence is null or confidence between 0 and 1"),
        Check("ck_decision_seq", "seq >= 1"),
        Check("ck_decision_final_outcome", "not is_final or outcome in ('approved', 'declined')"),
        Check("ck_decision_model", "kind <> 'model' or model_version is not null"),
        Check("ck_decision_processing_time", "processing_time_ms is null or processing_time_ms >= 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_decision_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_decision_application", ("tenant_id", "application_id"), "application", ("tenant_id", "id")),
        ForeignKey("fk_decision_decided_by", ("tenant_id", "decided_by_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_decision_application_id_seq", ("tenant_id", "application_id", "seq"), unique=True),
        Index(
            "uq_decision_application_id",
            ("tenant_id", "application_id"),
            unique=True,
            where="(is_final)",
            include=("risk_score",),
        ),
        Index("ix_decision_decided_by_id", ("tenant_id", "decided_by_id", "id"), comment="rows of one decided_by"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('decision')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('decision')"),
        Trigger(
            "tally_four_eyes",
            "BEFORE INSERT",
            "tally.decision_four_eyes('decision')",
            when='NEW."is_final" OR NEW."decided_by_id" IS NOT NULL',
        ),
        Trigger(
            "tally_outcome",
            "AFTER INSERT",
            "tally.decision_outcome('decision')",
            when='NEW."is_final" OR NEW."outcome" = \'review\'',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "application_id",
                "seq",
                "kind",
                "outcome",
                "is_final",
                "risk_score",
                "fraud_probability",
                "identity_match",
                "confidence",
                "model_version",
                "feature_hash",
                "base_value",
                "output_value",
                "shap",
                "risk_factors",
                "processing_time_ms",
                "decided_by_id",
                "decided_at",
            ),
        ),
    ),
    comment="One decision on one application; at most one is final. A correction is a further decision.",
)


def upgrade() -> None:
    """Loan applications and decisions."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(APPLICATION, DECISION))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(APPLICATION, DECISION)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
