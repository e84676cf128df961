"""The demo's last story: a borrower takes her data with her, is held, and is forgotten; the books do not notice."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.errors import Erased, OnHold

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.identity.users import User
    from tallystick.session import Session


@dataclass(slots=True, kw_only=True)
class Forgotten:
    """What the story shows; all of it was read from the database."""

    steps: list[tuple[str, str, bool]] = field(default_factory=list)
    rows: int = 0
    files: int = 0
    erased: tuple[str, ...] = ()
    kept: list[str] = field(default_factory=list)
    final: str = ""

    @property
    def held(self) -> bool:
        """Whether everything went as it must."""
        return bool(self.steps) and all(good for *_, good in self.steps)

    def tell(self, what: str, answer: str, good: bool) -> None:
        """One more thing that happened."""
        self.steps.append((what, answer, good))


async def forget(tally: Tallystick, slug: str) -> Forgotten:
    """Export, legal hold, erasure, and what is left of a person everywhere."""
    from tallystick.domains.rights.export import check_export

    told = Forgotten()
    async with tally.session(slug, actor="demo", permissions=["*"], reason="the demo") as db:
        person = await _person(db)
        trial = await db.ledger.trial_balance()
        with tempfile.TemporaryDirectory(prefix="tallystick-export-") as place:
            target = Path(place) / "export"
            await db.privacy.export(person, target, reason="she asked for it")
            manifest = check_export(target)
        told.rows, told.files = manifest.rows, len(manifest.files)
        told.tell("her data, exported and signed", f"{told.rows} rows in {told.files} files", told.rows > 0)
        hold = await db.privacy.hold(person, matter="2026-114")
        asked = await db.privacy.request_erasure(person)
        try:
            await db.privacy.erase(asked)
            told.tell("erased under a legal hold", "worked", False)
        except OnHold as refused:
            told.tell("erased under a legal hold", f"OnHold [{refused.code}]", True)
        await db.privacy.release(hold)
        done = await db.privacy.erase(asked)
        told.erased, told.final = done.erased, done.final
        told.kept = [f"{k.data_class} until {k.until}" for k in done.kept]
        told.tell("erased once it was released", f"{done.keys} keys destroyed", "identity" in done.erased)
        await _left(db, person, told)
        told.tell("the trial balance", "as before", await db.ledger.trial_balance() == trial)
    return told


async def _person(db: Session) -> User:
    from tallystick.domains.identity.profiles import UserProfile
    from tallystick.domains.identity.users import User, UserStatus
    from tallystick.privacy.sealed import secret

    person = await db.users.add(
        User(email="amara.okafor@example.org", first_name="Amara", last_name="Okafor", status=UserStatus.ACTIVE)
    )
    await db.profiles.add(UserProfile(user=person.ref, legal_name="Amara Okafor", ssn=secret("912-44-0187")))
    return person


async def _left(db: Session, person: User, told: Forgotten) -> None:
    from tallystick.domains.identity.profiles import UserProfile

    found = await db.users.by_email("amara.okafor@example.org")
    told.tell("looked for by her address", "nobody" if found is None else "found", found is None)
    profile = await db.profiles.of_user(person)
    assert profile is not None
    try:
        await db.profiles.reveal(profile.id, UserProfile.ssn, reason="curious")
        told.tell("her number, revealed", "worked", False)
    except Erased as gone:
        told.tell("her number, revealed", f"Erased [{gone.code}]", True)
    versions = await db.users.history(person.id)
    names = [v.entity.first_name for v in versions if v.entity is not None]
    blank = bool(names) and all(n is None for n in names)
    told.tell("her name in the audit trail", f"{len(names)} versions, unreadable" if blank else "readable", blank)


def show(out: Output, told: Forgotten) -> None:
    """The story as a table."""
    from rich.text import Text

    out.line()
    out.line("A borrower is forgotten, and the books do not notice", "bold")
    rows = [
        (Text("✓", style="green") if good else Text("✗", style="bold red"), what, answer)
        for what, answer, good in told.steps
    ]
    out.table(("", "what happened", "answer"), rows, flexible=("what happened", "answer"))
    kept = f" Kept by law: {', '.join(told.kept)}." if told.kept else ""
    out.line(f"Final {told.final}.{kept}", "bold green" if told.held else "bold red")


def document(told: Forgotten) -> dict[str, Any]:
    """The story for programs."""
    return {
        "held": told.held,
        "steps": [{"what": w, "answer": a, "good": g} for w, a, g in told.steps],
        "exported": {"rows": told.rows, "files": told.files},
        "erased": list(told.erased),
        "kept": told.kept,
        "final": told.final,
    }
