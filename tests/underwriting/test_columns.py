"""Every column of the tables of before is here, under its name or the one that the page of underwriting tells."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick import (
    Application,
    Decision,
    Device,
    DeviceStatus,
    EmploymentStatus,
    ReviewTask,
    secret,
    usd,
)
from tallystick.privacy.sealed import plaintext_of
from tallystick.session import Session

PAGE = Path(__file__).parents[2] / "docs" / "underwriting.md"
ROW = re.compile(r"^\| (applications|devices) \| (\w+) \| `(\w+)\.(\w+)` \|$", re.MULTILINE)
HERE = {c.__name__: c for c in (Application, Decision, Device, ReviewTask)}
NOT_HERE = {"deleted_at"}
APPLICATIONS = """
id tenant_id stripe_account_id plaid_verification_id duoplus_device_id blockchain_tx_hash full_legal_name
ssn_encrypted annual_income employment_status requested_limit credit_score email phone address risk_score
fraud_probability identity_match decision confidence processing_time_ms model_version shap_explanation risk_factors
identity_verification credit_report kyc_documents reviewed_by review_reason reviewed_at ip_address user_agent
device_fingerprint status created_at updated_at deleted_at
"""
DEVICES = """
id device_id_external tenant_id device_type model os_version region status current_task last_heartbeat last_seen
capabilities installed_apps battery_level signal_strength data_usage_mb temperature_celsius uptime_seconds
wifi_connected cellular_connected bluetooth_enabled ip_address mac_address configuration automation_rules
provisioned_by provisioned_at decommissioned_by decommissioned_at total_tasks_processed successful_tasks failed_tasks
last_task_at security_profile security_events compromised last_security_scan last_maintenance maintenance_notes
next_maintenance_due metadata created_at updated_at deleted_at
"""
AT = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("table", "entity", "named"), [("applications", Application, APPLICATIONS), ("devices", Device, DEVICES)]
)
def test_every_column_is_here(table: str, entity: Any, named: str) -> None:
    columns = named.split()
    told = {column: (HERE[kind], field) for of, column, kind, field in ROW.findall(PAGE.read_text()) if of == table}
    assert set(told) <= set(columns)
    for column in columns:
        if column not in NOT_HERE:
            kind, field = told.get(column, (entity, column))
            assert field in {f.name for f in msgspec.structs.fields(kind)}, column


async def test_every_column_of_an_application_comes_back(db: Session) -> None:
    document = {"source": "bureau", "lines": [{"balance": 12, "late": None}], "score": 0.5}
    given = Application(
        stripe_account_id="acct_1",
        plaid_verification_id="plaid-1",
        duoplus_device_id="duo-1",
        blockchain_tx_hash="0x" + "ab" * 32,
        full_legal_name="Ada Okafor",
        ssn=secret("666-01-0001"),
        annual_income=usd("9999999999.99"),
        employment_status=EmploymentStatus.EMPLOYED,
        requested_amount=usd("12345.67"),
        requested_months=24,
        purpose="a boat",
        credit_score=secret(712),
        email="ada@example.com",
        phone="+1 202 555 0123",
        address={"city": "Lagos", "country": "NG"},
        identity_verification=document,
        credit_report=document,
        kyc_documents=document,
        ip_address="2001:db8::1",
        user_agent="Mozilla/5.0",
        device_fingerprint=document,
        monitoring={"sex": "female", "age_band": "over 25"},
        idempotency_key="before-1",
    )
    await db.applications.submit(given)
    found = await db.applications.get(given.id)
    changed = {"status", "submitted_at", "ssn", "credit_score"}
    system = {"tenant_id", "version", "created_at", "created_by", "updated_at", "updated_by"}
    for field in msgspec.structs.fields(Application):
        if field.name not in changed | system:
            assert getattr(found, field.name) == getattr(given, field.name), field.name
    assert await db.applications.reveal(given.id, Application.credit_score, reason="test") == 712
    assert "666-01" not in repr(found)
    assert plaintext_of(given.ssn) == "666-01-0001"


async def test_every_column_of_a_device_comes_back(db: Session) -> None:
    given = Device(
        external_id="pad-1",
        device_type="tablet",
        model="Tab A9",
        os_version="Android 14",
        region="eu-west",
        capabilities={"nfc": True},
        installed_apps=["field", "scanner"],
        battery_level=Decimal("81.50"),
        signal_strength=-71,
        data_usage_mb=Decimal("12345678.90"),
        temperature_celsius=Decimal("-12.25"),
        uptime_seconds=2**40,
        wifi_connected=True,
        cellular_connected=True,
        bluetooth_enabled=True,
        ip_address="192.0.2.7",
        mac_address="02:00:5E:10:00:00",
        configuration={"volume": 3},
        automation_rules={"at": "night"},
        provisioned_by="depot",
        provisioned_at=AT,
        security_profile="field",
        security_events=[{"kind": "scan", "found": []}],
        last_security_scan=AT,
        last_maintenance=AT,
        maintenance_notes="New battery.",
        next_maintenance_due=AT,
        details={"owner": None},
    )
    made = await db.devices.provision(given)
    found = await db.devices.get(given.id)
    assert found == made
    system = {"tenant_id", "version", "created_at", "created_by", "updated_at", "updated_by"}
    for field in msgspec.structs.fields(Device):
        if field.name not in system:
            assert getattr(found, field.name) == getattr(given, field.name), field.name
    assert found.status is DeviceStatus.OFFLINE
