"""The demo's last story: the log is sealed, handed out and verified; a byte, a row and a balance are changed."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output

_TABLE, _COLUMN = "loan", b'"principal":'


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One thing that was looked at, what was found, and whether that is what should be found."""

    at: str
    found: str
    good: bool


@dataclass(slots=True, kw_only=True)
class Audited:
    """What the story shows; all of it was read from the database, or from a file that was."""

    looks: list[Look] = field(default_factory=list)
    key: str = ""
    root: str = ""

    @property
    def held(self) -> bool:
        """Whether what is right was verified, and what was changed was found and named."""
        return bool(self.looks) and all(look.good for look in self.looks)

    def tell(self, at: str, found: str, good: bool) -> None:
        """Add what was looked at."""
        self.looks.append(Look(at=at, found=found, good=good))


async def audit(tally: Tallystick, slug: str) -> Audited:
    """Seal, export and verify a tenant's log, change a byte in a copy, and edit a row as the owner of its table."""
    story = Audited()
    tenant = (await tally.tenants.resolve(slug)).id
    sealed = await tally.audit.seal()
    waits = sealed.unsealed
    for mark in sealed.checkpoints:
        if mark.tenant == tenant:
            story.root = mark.root
    story.tell("the sealer, over all logs", f"{sealed.entries:,} entries sealed, {waits:,} wait", waits == 0)
    loan = await _loan(tally, tenant)
    await _hand_out(tally, story, tenant, loan)
    before = await tally.audit.reconcile(tenant)
    told = f"{before.rows:,} rows compared, {len(before.findings)} differ"
    story.tell("each row and its last entry", told, before.clean)
    account = await _account(tally, tenant)
    await _edit(tally, _TABLE, loan, "principal = principal + 1")
    await _edit(tally, "account", account, "credits = credits + 1")
    changes = (await tally.audit.status()).state_changes
    told = "; ".join(changes) or "guards are as they were sealed"
    story.tell("the owner edits, capture off and on again", told, not changes)
    await _find(tally, story, tenant, "each loan and its last entry", (_TABLE, loan))
    await _find(tally, story, tenant, "each balance and its transfers", ("account", account))
    return story


async def _find(tally: Tallystick, story: Audited, tenant: UUID, at: str, edited: tuple[str, UUID]) -> None:
    table, key = edited
    report = await tally.audit.reconcile(tenant, tables=[table])
    found = [f"{f.kind}: {', '.join(f.columns)} of {f.table} {f.key}" for f in report.findings]
    story.tell(at, "; ".join(found) or "nothing", [f.key for f in report.findings] == [str(key)])


async def _account(tally: Tallystick, tenant: UUID) -> UUID:
    """One without a floor, so that no check stands in the way."""
    from tallystick.domains.ledger.accounts import Account, FloorRule

    async with tally.session(tenant, actor="demo", permissions=()) as db:
        found = await db.ledger.accounts.find((Account.floor_rule == FloorRule.NONE) & (Account.stripes == 0), limit=1)
    return found[0].id


async def _loan(tally: Tallystick, tenant: UUID) -> UUID:
    from tallystick.domains.lending.loans import Loan
    from tallystick.query import desc

    async with tally.session(tenant, actor="demo", permissions=()) as db:
        found = await db.loans.find(order=desc(Loan.created_at), limit=1)
    return found[0].id


async def _hand_out(tally: Tallystick, story: Audited, tenant: UUID, loan: UUID) -> None:
    """A bundle of the whole log, verified as an auditor does; and a copy in which one digit of a loan is another."""
    story.key = await tally.audit.vkey()
    with tempfile.TemporaryDirectory(prefix="tallystick-audit-") as made:
        bundle, copy = Path(made) / "log.tally", Path(made) / "copy.tally"
        await tally.audit.export(tenant, bundle)
        verdict, entries, findings = await asyncio.to_thread(_verify, bundle, story.key)
        story.tell("the exported log, by the offline verifier", f"{verdict}: {entries:,} entries", not findings)
        await asyncio.to_thread(_spoil, bundle, copy, str(loan).encode())
        verdict, _, findings = await asyncio.to_thread(_verify, copy, story.key)
        rows = [f"{f.get('table')} {f.get('key')}" for f in findings if "key" in f]
        named = rows == [f"{_TABLE} {loan}"]
        story.tell("a copy, one byte of it changed", f"{verdict}: {'; '.join(rows) or 'no row named'}", named)


def _verify(bundle: Path, key: str) -> tuple[str, int, list[dict[str, Any]]]:
    from tallystick.audit.verifier import Bundle, read_key

    with bundle.open("rb") as file:
        read = Bundle(file, [read_key(key)])
    return ("REFUSED" if read.findings else "VERIFIED"), len(read.leaves), read.findings


def _spoil(bundle: Path, copy: Path, loan: bytes) -> None:
    content = bytearray(bundle.read_bytes())
    digit = content.index(_COLUMN, content.index(b'"key":"' + loan)) + len(_COLUMN)
    content[digit] = ord("8") if content[digit] == ord("9") else content[digit] + 1
    copy.write_bytes(content)


async def _edit(tally: Tallystick, table: str, key: UUID, change: str) -> None:
    """What an owner of the tables can do between two looks of the sealer."""
    import asyncpg

    from tallystick.settings import connect_args

    connection = await asyncpg.connect(**connect_args(tally.admin_url))
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {tally.settings.roles.owner}")
            await connection.execute("SELECT set_config('tally.actor', 'owner', true)")
            await connection.execute(f"ALTER TABLE tally.{table} NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER USER")
            await connection.execute(f"UPDATE tally.{table} SET {change} WHERE id = $1", key)
            triggers = await connection.fetch(
                "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal",
                f"tally.{table}",
            )
            again = ", ".join(f"ENABLE ALWAYS TRIGGER {row[0]}" for row in triggers)
            await connection.execute(f"ALTER TABLE tally.{table} FORCE ROW LEVEL SECURITY, {again}")
    finally:
        await connection.close()


def show(out: Output, story: Audited) -> None:
    """The story for people."""
    from rich.text import Text

    rows = []
    for look in story.looks:
        mark = Text("✓", style="green") if look.good else Text("✗", style="bold red")
        rows.append((mark, look.at, look.found))
    out.table(("", "looked at", "found"), rows, flexible=("looked at", "found"))
    out.line(f"Root {story.root}", "dim")
    out.line(f"Key  {story.key}", "dim")


def document(story: Audited) -> dict[str, Any]:
    """The story for programs."""
    return {
        "looks": [{"at": look.at, "found": look.found, "good": look.good} for look in story.looks],
        "root": story.root,
        "key": story.key,
        "held": story.held,
    }
