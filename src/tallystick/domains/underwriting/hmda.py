"""Mortgage applications disclosed under HMDA: the Boston data of 1990, or any lender's register since 2007."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.datafiles import table_of
from tallystick.domains.underwriting import hmda_boston, hmda_register
from tallystick.domains.underwriting.boarding import Told, board
from tallystick.domains.underwriting.datasets import keyed, stored_keys
from tallystick.domains.underwriting.fairness_metrics import GroupOutcome
from tallystick.domains.underwriting.hmda_boston import COLUMNS, Record, mean_payment_to_income
from tallystick.domains.underwriting.hmda_register import Line
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.domains.underwriting.boarding import Boarded
    from tallystick.session import Session

__all__ = ["COLUMNS", "FILE", "Loaded", "Record", "find", "load", "mean_payment_to_income", "read"]

FILE: Final = "HMDA.csv"
_WHAT: Final = "the HMDA data"
# From one table: a join of what was stored a moment ago, without statistics, compares every row with every row.
_GROUPS: Final = (
    "SELECT a.monitoring ->> $2::text, count(*) FILTER (WHERE a.status = 'approved'), count(*) "
    "FROM tally.application a WHERE a.tenant_id = $1 AND a.status IN ('approved', 'declined') "
    "AND a.monitoring ->> $2::text IS NOT NULL GROUP BY 1"
)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did, and what the tenant's stored applications say of who was denied, by the attribute ``by``.

    ``payment_to_income`` is of the Boston data alone. ``purchased`` loans of a register are passed over: nobody applied
    for them.
    """

    file: str
    records: int
    added: int
    denied: int
    by: str
    groups: list[GroupOutcome]
    payment_to_income: Decimal | None = None
    purchased: int = 0


def find(path: Path) -> Path:
    """The data file that a path means: itself, or HMDA.csv (.gz too) in that folder. Raises ``Invalid``."""
    names = (f / name for f in (path, path / "hmda_boston") for name in (FILE, f"{FILE}.gz"))
    found = next((name for name in names if name.is_file()), path)
    if found.is_file():
        return found
    raise Invalid("There is no HMDA file at that path.", field="path", remedy=f"Name {FILE}, or the folder it is in.")


def read(path: Path) -> list[Record]:
    """Every record of a file of the Boston data, gzipped or not, with columns in any order.

    Raises ``Invalid`` with the number of the first line that is not what it should be, and for a register.
    """
    found, _ = _read(path)
    records = [one for one in found if isinstance(one, Record)]
    if not records:
        raise Invalid("That is a loan application register.", field="path", remedy="load() takes it.")
    return records


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the applications of a file that the tenant does not have yet, all or none.

    Needs the permission "applications.decide". Raises ``Invalid`` with the line number for a file that is damaged.
    """
    file = find(path)
    found, purchased = _read(file)
    everything: list[Record | Line] = [*found]
    boston = [r for r in found if isinstance(r, Record)]
    start, by = (hmda_boston.KEY, "afam") if boston else (hmda_register.KEY, "race")
    known = keyed(everything, start, lambda one: one.told)
    async with db.transaction():
        there, now = await stored_keys(db, start), db.now()
        given: list[Boarded] = [
            hmda_boston.application_of(one, now, key)
            if isinstance(one, Record)
            else hmda_register.application_of(one, now, key)
            for key, one in known.items()
            if key not in there
        ]
        added = await board(db, given, told)
        groups = [
            GroupOutcome(group=group, selected=selected, total=total)
            for group, selected, total in sorted(map(tuple, await db.unit.call(_GROUPS, (db.tenant_id, by))))
        ]
    return Loaded(
        file=file.name,
        records=len(found),
        added=added,
        denied=sum(g.total - g.selected for g in groups),
        by=by,
        groups=groups,
        payment_to_income=mean_payment_to_income(boston) if boston else None,
        purchased=purchased,
    )


def _read(path: Path) -> tuple[list[Record] | list[Line], int]:
    given, rows = table_of(path, _WHAT)
    header = [hmda_register.column(name) for name in given]
    found: list[Record] | list[Line]
    purchased = 0
    if hmda_register.is_register(header):
        found, purchased = hmda_register.lines(header, rows)
    elif {hmda_boston.OTHER_NAMES.get(name, name) for name in header} >= hmda_boston.NEEDED:
        found = hmda_boston.records(header, rows)
    else:
        raise Invalid(
            "The first line is the header of neither the Boston HMDA data nor a loan application register.",
            field="path",
            remedy=f"Columns are those of {FILE}, or of the public register: action_taken, loan_amount, derived_race.",
        )
    if not found:
        raise Invalid("The file holds no applications.", field="path", remedy="Check that the download is complete.")
    return found, purchased
