"""scores, analyses and reputation

Revision reputation_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "reputation_0002"
down_revision = "reputation_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

CONSENTED = """
CREATE FUNCTION tally.reputation_consented() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  -- A row without a consent would be judged without looking, before anybody asked whose tenant it is.
  PERFORM tally_sec.current_tenant();
  PERFORM FROM tally.consent c WHERE c.tenant_id = NEW.tenant_id AND c.id = NEW.consent_id
    AND c.user_id = NEW.user_id AND c.purpose = ANY (string_to_array(TG_ARGV[1], ',')) AND c.withdrawn_at IS NULL
    FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no consent stands behind a row of %', TG_ARGV[0] USING ERRCODE = 'TS901', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

EXPLAINED = """
CREATE FUNCTION tally.score_explained() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  total numeric;
BEGIN
  SELECT NEW.base_value + coalesce(sum(s.value::numeric), 0) INTO total FROM jsonb_each_text(NEW.shap) s;
  IF (abs(total - NEW.output_value) < 0.000001) IS NOT TRUE THEN
    RAISE EXCEPTION 'the attributions do not add up to the output' USING ERRCODE = 'TS907', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

SCORE = Table(
    "score",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("category", 'text COLLATE "C"'),
        Column("value", "bigint"),
        Column("model", 'text COLLATE "C"'),
        Column("confidence", "numeric(9,6)", nullable=True),
        Column("input_set", "bytea", nullable=True),
        Column("input_count", "bigint"),
        Column("base_value", "numeric(18,9)", nullable=True),
        Column("output_value", "numeric(18,9)", nullable=True),
        Column("shap", "jsonb", nullable=True),
        Column("details", "jsonb", nullable=True),
        Column("scored_at", "timestamp with time zone"),
        Column("consent_id", "uuid", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_score_category",
            "category in ('overall', 'credit', 'repayment', 'defi', 'nft', 'governance', 'social', 'identity')",
        ),
        Check("ck_score_model_length", "char_length(model) between 1 and 64"),
        Check("ck_score_value", "value between 0 and 1000"),
        Check("ck_score_confidence", "confidence is null or confidence between 0 and 1"),
        Check("ck_score_input_set", "input_set is null or octet_length(input_set) = 32"),
        Check("ck_score_input_count", "input_count >= 0"),
        Check("ck_score_consent", "consent_id is not null"),
        Check("ck_score_shap", "(shap is null) = (base_value is null) and (shap is null) = (output_value is null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_score_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_score_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_score_consent", ("tenant_id", "consent_id"), "consent", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_score_input_set_model_category",
            ("tenant_id", "input_set", "model", "category"),
            unique=True,
            where="(input_set is not null)",
        ),
        Index(
            "ix_score_user_id_category_scored_at",
            ("tenant_id", "user_id", "category", "scored_at", "id"),
            comment="a user's scores of a category, newest first",
        ),
        Index("ix_score_model_scored_at", ("tenant_id", "model", "scored_at", "id"), comment="scores of a model"),
        Index("ix_score_consent_id", ("tenant_id", "consent_id", "id"), comment="rows of one consent"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('score')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('score')"),
        Trigger(
            "tally_consented",
            "BEFORE INSERT",
            "tally.reputation_consented('score', 'credit_check,ai_analysis')",
        ),
        Trigger("tally_explained", "BEFORE INSERT", "tally.score_explained('score')", when="NEW.shap IS NOT NULL"),
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
                "user_id",
                "category",
                "value",
                "model",
                "confidence",
                "input_set",
                "input_count",
                "base_value",
                "output_value",
                "shap",
                "details",
                "scored_at",
                "consent_id",
            ),
        ),
    ),
    comment="A scoring result: 0 to 1000, by one version of a model, on one set of inputs. Never changed.",
)

AI_ANALYSIS = Table(
    "ai_analysis",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("model", 'text COLLATE "C"'),
        Column("trust_score", "numeric(9,6)"),
        Column("openness", "numeric(9,6)"),
        Column("conscientiousness", "numeric(9,6)"),
        Column("extraversion", "numeric(9,6)"),
        Column("agreeableness", "numeric(9,6)"),
        Column("neuroticism", "numeric(9,6)"),
        Column("explanation", "jsonb", nullable=True),
        Column("consent_id", "uuid", nullable=True),
        Column("analysed_at", "timestamp with time zone"),
        Column("expires_at", "timestamp with time zone"),
        Column("superseded_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_ai_analysis_model_length", "char_length(model) between 1 and 64"),
        Check("ck_ai_analysis_trust_score", "trust_score between 0 and 1"),
        Check("ck_ai_analysis_openness", "openness between 0 and 1"),
        Check("ck_ai_analysis_conscientiousness", "conscientiousness between 0 and 1"),
        Check("ck_ai_analysis_extraversion", "extraversion between 0 and 1"),
        Check("ck_ai_analysis_agreeableness", "agreeableness between 0 and 1"),
        Check("ck_ai_analysis_neuroticism", "neuroticism between 0 and 1"),
        Check("ck_ai_analysis_expires", "expires_at > analysed_at"),
        Check("ck_ai_analysis_superseded", "superseded_at is null or superseded_at >= analysed_at"),
        Check("ck_ai_analysis_consent", "consent_id is not null"),
    ),
    foreign_keys=(
        ForeignKey("fk_ai_analysis_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_ai_analysis_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_ai_analysis_consent", ("tenant_id", "consent_id"), "consent", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_ai_analysis_user_id_model",
            ("tenant_id", "user_id", "model"),
            unique=True,
            where="(superseded_at is null)",
        ),
        Index(
            "ix_ai_analysis_user_id_analysed_at",
            ("tenant_id", "user_id", "analysed_at", "id"),
            comment="a person's analyses, newest first",
        ),
        Index("ix_ai_analysis_expires_at", ("tenant_id", "expires_at", "id"), comment="analyses to remove"),
        Index("ix_ai_analysis_consent_id", ("tenant_id", "consent_id", "id"), comment="rows of one consent"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('ai_analysis')"),
        Trigger("tally_consented", "BEFORE INSERT", "tally.reputation_consented('ai_analysis', 'ai_analysis')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_superseded",
            "BEFORE UPDATE",
            "tally.refuse_change('ai_analysis')",
            when='OLD."superseded_at" IS NOT NULL',
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
                "user_id",
                "model",
                "trust_score",
                "openness",
                "conscientiousness",
                "extraversion",
                "agreeableness",
                "neuroticism",
                "explanation",
                "consent_id",
                "analysed_at",
                "expires_at",
                "superseded_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("superseded_at",)),
        Grant("app", "DELETE"),
    ),
    comment=(
        "What a model says of a person: trustworthiness and the Big Five (Goldberg 1990), each a fraction from 0 to 1."
    ),
)

REPUTATION_EVIDENCE = Table(
    "reputation_evidence",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("category", 'text COLLATE "C"'),
        Column("good", "boolean"),
        Column("count", "bigint"),
        Column("weight", "numeric(18,9)"),
        Column("observed_at", "timestamp with time zone"),
        Column("external_id", 'text COLLATE "C"', nullable=True),
        Column("score_id", "uuid", nullable=True),
        Column("cancels_id", "uuid", nullable=True),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_reputation_evidence_category",
            "category in ('overall', 'credit', 'repayment', 'defi', 'nft', 'governance', 'social', 'identity')",
        ),
        Check("ck_reputation_evidence_external_id_length", "char_length(external_id) between 1 and 200"),
        Check("ck_reputation_evidence_reason_length", "char_length(reason) between 1 and 500"),
        Check("ck_reputation_evidence_count", "count between 1 and 1000000"),
        Check("ck_reputation_evidence_weight", "weight > 0"),
        Check("ck_reputation_evidence_cancels", "cancels_id is null or (cancels_id <> id and reason is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_reputation_evidence_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_reputation_evidence_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_reputation_evidence_score", ("tenant_id", "score_id"), "score", ("tenant_id", "id")),
        ForeignKey(
            "fk_reputation_evidence_cancels",
            ("tenant_id", "cancels_id"),
            "reputation_evidence",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index(
            "uq_reputation_evidence_user_id_category_external_id",
            ("tenant_id", "user_id", "category", "external_id"),
            unique=True,
            where="(external_id is not null)",
        ),
        Index(
            "uq_reputation_evidence_cancels_id",
            ("tenant_id", "cancels_id"),
            unique=True,
            where="(cancels_id is not null)",
        ),
        Index(
            "ix_reputation_evidence_user_id_category_observed_at",
            ("tenant_id", "user_id", "category", "observed_at", "id"),
            comment="the experiences with a user, in order",
        ),
        Index("ix_reputation_evidence_score_id", ("tenant_id", "score_id", "id"), comment="rows of one score"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('reputation_evidence')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('reputation_evidence')"),
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
                "user_id",
                "category",
                "good",
                "count",
                "weight",
                "observed_at",
                "external_id",
                "score_id",
                "cancels_id",
                "reason",
            ),
        ),
    ),
    comment="``count`` good or bad experiences with a user at one moment. A mistake is cancelled by a further row.",
)

REPUTATION_RECORD = Table(
    "reputation_record",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("category", 'text COLLATE "C"'),
        Column("period", 'text COLLATE "C"'),
        Column("period_start", "timestamp with time zone"),
        Column("seq", "bigint"),
        Column("status", 'text COLLATE "C"'),
        Column("score", "bigint"),
        Column("previous", "bigint", nullable=True),
        Column("alpha", "numeric(38,18)"),
        Column("beta", "numeric(38,18)"),
        Column("half_life_days", "numeric(18,9)", nullable=True),
        Column("evidence_count", "bigint"),
        Column("as_of", "timestamp with time zone"),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_reputation_record_category",
            "category in ('overall', 'credit', 'repayment', 'defi', 'nft', 'governance', 'social', 'identity')",
        ),
        Check("ck_reputation_record_period", "period in ('instant', 'daily', 'weekly', 'monthly')"),
        Check("ck_reputation_record_status", "status in ('active', 'superseded', 'disputed', 'revoked')"),
        Check("ck_reputation_record_reason_length", "char_length(reason) between 1 and 500"),
        Check("ck_reputation_record_seq", "seq >= 1"),
        Check("ck_reputation_record_derived", "status <> 'superseded'"),
        Check(
            "ck_reputation_record_score",
            "score between 0 and 1000 and (previous is null or previous between 0 and 1000)",
        ),
        Check("ck_reputation_record_mass", "alpha >= 0 and beta >= 0"),
        Check("ck_reputation_record_half_life", "half_life_days is null or half_life_days > 0"),
        Check("ck_reputation_record_evidence_count", "evidence_count >= 0"),
        Check("ck_reputation_record_as_of", "as_of >= period_start"),
        Check("ck_reputation_record_reason", "status = 'active' or reason is not null"),
    ),
    foreign_keys=(
        ForeignKey("fk_reputation_record_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_reputation_record_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_reputation_record_user_id_category_period_period_4a8f0fcf",
            ("tenant_id", "user_id", "category", "period", "period_start", "seq"),
            unique=True,
        ),
        Index(
            "ix_reputation_record_category_period_period_start",
            ("tenant_id", "category", "period", "period_start", "id"),
            comment="everybody's reputation in a period",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('reputation_record')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('reputation_record')"),
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
                "user_id",
                "category",
                "period",
                "period_start",
                "seq",
                "status",
                "score",
                "previous",
                "alpha",
                "beta",
                "half_life_days",
                "evidence_count",
                "as_of",
                "reason",
            ),
        ),
    ),
    comment="A user's reputation in a category as of ``as_of``, for the period that begins at ``period_start``.",
)

FUNCTIONS = {
    CONSENTED: "tally.reputation_consented()",
    EXPLAINED: "tally.score_explained()",
}
TABLES = (SCORE, AI_ANALYSIS, REPUTATION_EVIDENCE, REPUTATION_RECORD)


def upgrade() -> None:
    """Scores, analyses and reputation."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
