"""``tallystick outbox``: status across tenants, dead letters, retries, discarding, purging."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cli.conftest import Cli

from tallystick import Retry, Settings, Tallystick

SLUG = "sunrise"


async def plant(data_dir: Path) -> list[str]:
    """A message that is over, two dead letters and one that waits behind them."""
    async with (
        Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally,
        tally.session(SLUG, actor="test", permissions=("*",)) as db,
    ):
        await db.outbox.add("letters", "Zoe Quist")
        async for message in db.outbox.claim("letters"):
            await message.done()
        made = [await db.outbox.add("letters", "Zoe Quist", key=key) for key in ("a", "b")]
        await db.outbox.add("letters", "Zoe Quist", key="a")
        async for message in db.outbox.claim("letters", retry=Retry(attempts=1)):
            await message.fail(ValueError("Zoe Quist"))
    return [str(m.id) for m in made]


def test_an_operator_looks_and_decides(cli: Cli, data_dir: Path) -> None:
    one, other = asyncio.run(plant(data_dir))
    looked = cli("outbox", "status", "--json")
    (row,) = [r for r in looked.document["topics"] if r["topic"] == "letters"]
    assert looked.code == 1
    assert (row["tenant"], row["stuck"], row["waiting"]) == (SLUG, 2, 1)
    shown = cli("outbox", "dead", "--tenant", SLUG)
    assert "ValueError" in shown.out
    assert "Zoe" not in shown.out
    assert [d["id"] for d in cli("outbox", "dead", "--json").document["dead"]] == [one, other]
    assert cli("outbox", "retry", one, "--tenant", SLUG).code == 0
    assert cli("outbox", "retry", one, "--tenant", SLUG).code == 5
    assert cli("outbox", "retry", "nonsense", "--tenant", SLUG).code == 2
    why = ("--tenant", SLUG, "--reason", "sent by post")
    assert cli("outbox", "discard", other, *why).code == 2
    assert cli("outbox", "discard", other, *why, "--yes").code == 0
    assert cli("outbox", "status", "--tenant", SLUG).code == 0
    assert cli("outbox", "status", "--lag", "-1").code == 1
    assert cli("outbox", "purge", "--json").document["removed"][SLUG] == 0
    assert cli("outbox", "purge", "--days", "0").out == "Removed 2 messages.\n"
    assert cli("outbox", "dead").out == "No dead letters.\n"
