"""``tallystick audit reconcile``: a clean database, a silent edit, and going on after being stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from tallystick import Tallystick
from tallystick.cli.demo_audit import Audited, Look
from tallystick.settings import Settings, connect_args


def test_the_seeds_are_what_the_log_says(cli: Cli, data_dir: Path) -> None:
    said = cli("audit", "reconcile", "--tenant", "sunrise", "--tenant", "harbour", "--json")
    assert said.code == 0, said.err
    assert (said.document["ok"], said.document["findings"], said.document["unknown"]) == (True, [], [])
    assert said.document["rows"] > 2_000
    assert said.document["derived"] > 50
    said = cli("audit", "reconcile", "--tenant", "harbour", "--table", "tenant")
    assert said.code == 0
    assert "1 rows of 1 tenants compared" in said.out


async def _count(data_dir: Path, more: int) -> str:
    """Change a row as the owner, capture off and on again; answers its key."""
    import asyncpg

    async with Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally:
        conn = await asyncpg.connect(**connect_args(tally.admin_url))
        try:
            async with conn.transaction():
                await conn.execute(f"SET LOCAL ROLE {tally.settings.roles.owner}")
                await conn.execute("ALTER TABLE tally.vault DISABLE TRIGGER USER, NO FORCE ROW LEVEL SECURITY")
                key = await conn.fetchval(
                    "UPDATE tally.vault SET version = version + $1 WHERE id = (SELECT min(id::text) FROM tally.vault)"
                    "::uuid RETURNING id::text",
                    more,
                )
                await conn.execute("ALTER TABLE tally.vault FORCE ROW LEVEL SECURITY")
                for (name,) in await conn.fetch(
                    "SELECT tgname FROM pg_trigger WHERE tgrelid = 'tally.vault'::regclass AND NOT tgisinternal"
                ):
                    await conn.execute(f'ALTER TABLE tally.vault ENABLE ALWAYS TRIGGER "{name}"')
        finally:
            await conn.close()
    return str(key)


def test_a_silent_edit_and_going_on(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    position = tmp_path / "position"
    key = asyncio.run(_count(data_dir, 1))
    try:
        said = cli("audit", "reconcile", "--table", "vault")
        assert said.code == 8, said.err
        assert f"vault {key}" in said.out
        assert "(version)" in said.out
        (one,) = (cli("audit", "reconcile", "--table", "vault", "--json")).document["findings"]
        assert (one["table"], one["key"], one["kind"], one["columns"]) == ("vault", key, "edited", ["version"])
        # As a run left it that was killed after it had found this in the first of two tenants.
        kept = {
            "of": {"tenants": ["sunrise", "harbour"], "tables": ["vault"], "deep": True},
            "tenants": {"sunrise": {"after": None, "done": True, "rows": 36, "derived": 0, "expired": 0}},
            "findings": [one],
            "unknown": [],
            "seconds": 1.0,
        }
        position.write_text(json.dumps(kept))
        rest = ("--tenant", "sunrise", "--tenant", "harbour", "--table", "vault", "--deep", "--resume", str(position))
        said = cli("audit", "reconcile", *rest, "--json")
        assert said.code == 8
        assert one in said.document["findings"]
        assert said.document["tenants"] == 2
        assert not position.exists()
    finally:
        assert asyncio.run(_count(data_dir, -1)) == key


@pytest.mark.parametrize("content", ["", "[]", '{"of": 1}', '{"of": {"tenants": null, "tables": null, "deep": false}}'])
def test_a_position_of_something_else_is_refused(cli: Cli, data_dir: Path, tmp_path: Path, content: str) -> None:
    position = tmp_path / "position"
    position.write_text(content)
    said = cli("audit", "reconcile", "--resume", str(position))
    assert said.code == 2
    assert position.read_text() == content


def test_what_is_wrong_is_said(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("audit", "reconcile", "--tenant", "nobody").code == 4
    assert cli("audit", "reconcile", "--tenant", "harbour", "--table", "nothing").code == 2
    assert cli("audit", "reconcile", "--tenant", "harbour", "--batch", "0").code == 2
    nowhere = str(tmp_path / "none" / "position")
    assert cli("audit", "reconcile", "--tenant", "harbour", "--table", "tenant", "--resume", nowhere).code == 6


def test_a_story_that_is_not_right_fails_the_demo(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(*_: object) -> Audited:
        return Audited(looks=[Look(at="each loan and its last entry", found="nothing", good=False)])

    monkeypatch.setattr("tallystick.cli.demo_audit.audit", blind)
    said = cli("demo")
    assert said.code == 1
    assert "THE AUDIT IS WRONG" in said.out
