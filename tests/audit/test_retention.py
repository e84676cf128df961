"""``tallystick audit retain``: it shows what it would drop, asks, changes the policy, and drops what is past it."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest
from tests.audit.ground import SealedGround
from tests.audit.test_partitions import LONG_AGO, aged, leaves

from tallystick.errors import Invalid

_FOREIGN = ("DATABASE_", "POSTGRES_", "DB_", "TALLYSTICK_")


async def said(ground: SealedGround, *arguments: str) -> tuple[int, str, str]:
    """Run the command on the ground's database, with nobody who could be asked."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)} | {
        "DATABASE_URL": ground.url("app"),
        "TALLYSTICK_ADMIN_URL": ground.url("admin"),
        "TALLYSTICK_SEAL_URL": ground.url("seal"),
        "TALLYSTICK_ROLE_PREFIX": ground.server.roles.prefix,
        "TALLYSTICK_KEYS": "",
    }
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallystick.cli", "audit", "retain", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await asyncio.wait_for(run.communicate(), 60)
    return run.returncode or 0, out.decode(), err.decode()


async def test_it_explains_asks_and_drops(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    seqs = await aged(sealed, tenant)
    assert (await sealed.tally.audit.retention()).expired == ()
    (month,) = (await sealed.tally.audit.retention(24)).expired
    assert (month.month, month.entries, month.unsealed) == (LONG_AGO, 3, 3)
    policy = ("--months", "24", "--basis", "a law of 24 months")
    code, _, err = await said(sealed, *policy, "--yes")
    assert (code, "not sealed" in err) == (5, True), err
    await leaves(sealed, tenant, seqs)

    code, out, err = await said(sealed, "--months", "24", "--explain")
    assert (code, err) == (0, "")
    assert "2020-02" in out
    assert "would be dropped" in out
    code, _, err = await said(sealed, *policy)
    assert (code, "--yes" in err) == (2, True)
    code, _, err = await said(sealed, "--months", "24", "--yes")
    assert (code, "--basis" in err) == (2, True)
    assert (await sealed.tally.audit.retention()).months == 120
    async with sealed.connected("seal") as conn:
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.entry WHERE seq = ANY ($1)", seqs) == 3

    code, out, err = await said(sealed, *policy, "--yes", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["months"], document["basis"], document["dropped"]) == (24, "a law of 24 months", 3)
    assert [m["month"] for m in document["expired"]] == ["2020-02"]
    now = await sealed.tally.audit.retention()
    assert (now.months, now.basis, now.expired) == (24, "a law of 24 months", ())
    async with sealed.connected("seal") as conn:
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.entry WHERE seq = ANY ($1)", seqs) == 0
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.leaf WHERE seq = ANY ($1)", seqs) == 3
        (told,) = await conn.fetch("SELECT body FROM tally_audit.entry WHERE op = 'P' AND tenant_id = $1", tenant)
        assert json.loads(told["body"])["event"]["basis"] == "a law of 24 months"
    code, out, _ = await said(sealed)
    assert (code, "No month is past the policy" in out) == (0, True)


@pytest.mark.parametrize("months", [0, -1, 1201, True, "12"])
async def test_a_policy_that_is_none_is_refused(sealed: SealedGround, months: int) -> None:
    with pytest.raises(Invalid):
        await sealed.tally.audit.retention(months)
    with pytest.raises(Invalid):
        await sealed.tally.audit.set_retention(months, "a law")
    for basis in ("", "  ", "x" * 501):
        with pytest.raises(Invalid, match="basis"):
            await sealed.tally.audit.set_retention(12, basis)
