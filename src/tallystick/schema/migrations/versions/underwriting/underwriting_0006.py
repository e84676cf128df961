"""devices and their tasks

Revision underwriting_0006, after underwriting_0005.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "underwriting_0006"
down_revision = "underwriting_0005"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

COUNTED = """
CREATE FUNCTION tally.device_counted() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM tally.consume('devices', date '1970-01-01', 1,
      (SELECT t.max_devices FROM tally_ref.tenant t WHERE t.id = NEW.tenant_id));
  ELSE
    UPDATE tally.usage u SET used = u.used - 1
    WHERE u.tenant_id = NEW.tenant_id AND u.metric = 'devices' AND u.period = date '1970-01-01' AND u.used > 0;
  END IF;
  RETURN NULL;
END $f$"""

FUNCTIONS = {
    COUNTED: "tally.device_counted()",
}

DEVICE = Table(
    "device",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("external_id", 'text COLLATE "C"'),
        Column("device_type", 'text COLLATE "C"'),
        Column("model", 'text COLLATE "C"', nullable=True),
        Column("os_version", 'text COLLATE "C"', nullable=True),
        Column("region", 'text COLLATE "C"'),
        Column("status", 'text COLLATE "C"'),
        Column("current_task", 'text COLLATE "C"', nullable=True),
        Column("last_heartbeat", "timestamp with time zone", nullable=True),
        Column("last_seen", "timestamp with time zone", nullable=True),
        Column("capabilities", "jsonb", nullable=True),
        Column("installed_apps", "jsonb", nullable=True),
        Column("battery_level", "numeric(5,2)", nullable=True),
        Column("signal_strength", "bigint", nullable=True),
        Column("data_usage_mb", "numeric(12,2)", nullable=True),
        Column("temperature_celsius", "numeric(5,2)", nullable=True),
        Column("uptime_seconds", "bigint", nullable=True),
        Column("wifi_connected", "boolean"),
        Column("cellular_connected", "boolean"),
        Column("bluetooth_enabled", "boolean"),
        Column("ip_address", "bytea", nullable=True),
        Column("mac_address", "bytea", nullable=True),
        Column("configuration", "jsonb", nullable=True),
        Column("automation_rules", "jsonb", nullable=True),
        Column("provisioned_by", 'text COLLATE "C"', nullable=True),
        Column("provisioned_at", "timestamp with time zone", nullable=True),
        Column("decommissioned_by", 'text COLLATE "C"', nullable=True),
        Column("decommissioned_at", "timestamp with time zone", nullable=True),
        Column("tasks_started", "bigint"),
        Column("tasks_done", "bigint"),
        Column("tasks_failed", "bigint"),
        Column("last_task_at", "timestamp with time zone", nullable=True),
        Column("security_profile", 'text COLLATE "C"', nullable=True),
        Column("security_events", "jsonb", nullable=True),
        Column("compromised", "boolean"),
        Column("last_security_scan", "timestamp with time zone", nullable=True),
        Column("last_maintenance", "timestamp with time zone", nullable=True),
        Column("maintenance_notes", 'text COLLATE "C"', nullable=True),
        Column("next_maintenance_due", "timestamp with time zone", nullable=True),
        Column("details", "jsonb", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_device_external_id_length", "char_length(external_id) between 1 and 255"),
        Check("ck_device_device_type_length", "char_length(device_type) between 1 and 50"),
        Check("ck_device_model_length", "char_length(model) between 0 and 100"),
        Check("ck_device_os_version_length", "char_length(os_version) between 0 and 50"),
        Check("ck_device_region_length", "char_length(region) between 1 and 20"),
        Check("ck_device_status", "status in ('offline', 'online', 'busy', 'maintenance', 'decommissioned')"),
        Check("ck_device_current_task_length", "char_length(current_task) between 1 and 255"),
        Check("ck_device_provisioned_by_length", "char_length(provisioned_by) between 1 and 255"),
        Check("ck_device_decommissioned_by_length", "char_length(decommissioned_by) between 1 and 255"),
        Check("ck_device_security_profile_length", "char_length(security_profile) between 0 and 100"),
        Check("ck_device_maintenance_notes_length", "char_length(maintenance_notes) between 0 and 2000"),
        Check("ck_device_battery", "battery_level is null or battery_level between 0 and 100"),
        Check("ck_device_data_usage", "data_usage_mb is null or data_usage_mb >= 0"),
        Check("ck_device_uptime", "uptime_seconds is null or uptime_seconds >= 0"),
        Check(
            "ck_device_tasks",
            "tasks_done >= 0 and tasks_failed >= 0 and tasks_done + tasks_failed <= tasks_started",
        ),
        Check("ck_device_busy", "(status = 'busy') = (current_task is not null)"),
        Check("ck_device_decommissioned", "(status = 'decommissioned') = (decommissioned_at is not null)"),
    ),
    foreign_keys=(ForeignKey("fk_device_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_device_external_id", ("tenant_id", "external_id"), unique=True),
        Index(
            "ix_device_status_last_heartbeat",
            ("tenant_id", "status", "last_heartbeat", "id"),
            comment="devices of a status, the longest silent first",
        ),
        Index(
            "ix_device_device_type_region",
            ("tenant_id", "device_type", "region", "id"),
            comment="devices of a type in a region",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('device')"),
        Trigger("tally_counted", "AFTER INSERT", "tally.device_counted('device')"),
        Trigger(
            "tally_given_back",
            "AFTER UPDATE",
            "tally.device_counted('device')",
            when="OLD.\"status\" <> 'decommissioned' AND NEW.\"status\" = 'decommissioned'",
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('device')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", "tally.sealed_live('ip_address', 'mac_address')"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('device', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['offline']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('device', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'offline\' AND NEW."status" = '
                "ANY (ARRAY['online', 'maintenance', 'decommissioned'])) OR (OLD.\"status\" = 'online' AND "
                "NEW.\"status\" = ANY (ARRAY['offline', 'busy', 'maintenance', 'decommissioned'])) OR "
                "(OLD.\"status\" = 'busy' AND NEW.\"status\" = ANY (ARRAY['online', 'offline'])) OR "
                "(OLD.\"status\" = 'maintenance' AND NEW.\"status\" = ANY (ARRAY['offline', 'online', "
                "'decommissioned'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY (ARRAY['offline']))) IS "
                "NOT TRUE"
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
                "external_id",
                "device_type",
                "model",
                "os_version",
                "region",
                "status",
                "current_task",
                "last_heartbeat",
                "last_seen",
                "capabilities",
                "installed_apps",
                "battery_level",
                "signal_strength",
                "data_usage_mb",
                "temperature_celsius",
                "uptime_seconds",
                "wifi_connected",
                "cellular_connected",
                "bluetooth_enabled",
                "ip_address",
                "mac_address",
                "configuration",
                "automation_rules",
                "provisioned_by",
                "provisioned_at",
                "decommissioned_by",
                "decommissioned_at",
                "tasks_started",
                "tasks_done",
                "tasks_failed",
                "last_task_at",
                "security_profile",
                "security_events",
                "compromised",
                "last_security_scan",
                "last_maintenance",
                "maintenance_notes",
                "next_maintenance_due",
                "details",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "device_type",
                "model",
                "os_version",
                "region",
                "status",
                "current_task",
                "last_heartbeat",
                "last_seen",
                "capabilities",
                "installed_apps",
                "battery_level",
                "signal_strength",
                "data_usage_mb",
                "temperature_celsius",
                "uptime_seconds",
                "wifi_connected",
                "cellular_connected",
                "bluetooth_enabled",
                "ip_address",
                "mac_address",
                "configuration",
                "automation_rules",
                "provisioned_by",
                "provisioned_at",
                "decommissioned_by",
                "decommissioned_at",
                "tasks_started",
                "tasks_done",
                "tasks_failed",
                "last_task_at",
                "security_profile",
                "security_events",
                "compromised",
                "last_security_scan",
                "last_maintenance",
                "maintenance_notes",
                "next_maintenance_due",
                "details",
            ),
        ),
    ),
    comment=(
        "A cloud device. ``external_id`` is its provider's name for it, once in a tenant; many tenants may know one."
    ),
)

DEVICE_TASK = Table(
    "device_task",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("name", 'text COLLATE "C"'),
        Column("application_id", "uuid", nullable=True),
        Column("payload", "jsonb"),
        Column("state", 'text COLLATE "C"'),
        Column("tries", "bigint"),
        Column("device_id", "uuid", nullable=True),
        Column("started_at", "timestamp with time zone", nullable=True),
        Column("finished_at", "timestamp with time zone", nullable=True),
        Column("error", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_device_task_name_length", "char_length(name) between 1 and 255"),
        Check("ck_device_task_state", "state in ('queued', 'running', 'done', 'failed', 'cancelled')"),
        Check("ck_device_task_error_length", "char_length(error) between 1 and 1000"),
        Check("ck_device_task_running", "(state in ('queued', 'cancelled')) = (device_id is null)"),
        Check("ck_device_task_started", "(device_id is null) = (started_at is null)"),
        Check("ck_device_task_finished", "(state in ('done', 'failed', 'cancelled')) = (finished_at is not null)"),
        Check("ck_device_task_error", "(state = 'failed') = (error is not null)"),
        Check("ck_device_task_tries", "tries >= 0 and (device_id is null or tries >= 1)"),
    ),
    foreign_keys=(
        ForeignKey("fk_device_task_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_device_task_application",
            ("tenant_id", "application_id"),
            "application",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_device_task_device", ("tenant_id", "device_id"), "device", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_device_task_device_id", ("tenant_id", "device_id"), unique=True, where="(state = 'running')"),
        Index(
            "ix_device_task_state_created_at",
            ("tenant_id", "state", "created_at", "id"),
            comment="the queue of tasks, oldest first",
        ),
        Index(
            "ix_device_task_device_id_created_at",
            ("tenant_id", "device_id", "created_at", "id"),
            comment="the tasks of a device",
        ),
        Index(
            "ix_device_task_application_id",
            ("tenant_id", "application_id", "id"),
            comment="the tasks for an application",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('device_task')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('device_task')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('device_task', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['queued']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('device_task', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'queued\' AND NEW."state" = ANY '
                "(ARRAY['running', 'cancelled'])) OR (OLD.\"state\" = 'running' AND NEW.\"state\" = ANY "
                "(ARRAY['done', 'failed', 'queued'])) OR (OLD.\"state\" = 'failed' AND NEW.\"state\" = ANY "
                '(ARRAY[\'queued\'])) OR (OLD."state" IS NULL AND NEW."state" = ANY '
                "(ARRAY['queued']))) IS NOT TRUE"
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
                "name",
                "application_id",
                "payload",
                "state",
                "tries",
                "device_id",
                "started_at",
                "finished_at",
                "error",
            ),
        ),
        Grant("app", "UPDATE", columns=("state", "tries", "device_id", "started_at", "finished_at", "error")),
    ),
    comment="Something for a device to do, once; a device does one at a time.",
)


def upgrade() -> None:
    """Devices and their tasks."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(DEVICE, DEVICE_TASK))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(DEVICE, DEVICE_TASK)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
