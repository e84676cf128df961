"""What ``load lending-club`` and ``load berka`` print: the numbers of a data set, counted from what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from tallystick.cli.output import Output
    from tallystick.domains.lending.datasets import berka, berka_report, lending_club, lending_club_report


def lending_club_document(tenant: str, done: lending_club.Loaded, found: lending_club_report.Report) -> dict[str, Any]:
    """The answer for programs."""
    return {"tenant": tenant, "file": done.file, "records": done.records, "added": done.added, **_plain(found)}


def berka_document(tenant: str, done: berka.Loaded, found: berka_report.Report) -> dict[str, Any]:
    """The answer for programs."""
    return {"tenant": tenant, **_plain(done), **_plain(found)}


def show_lending_club(out: Output, tenant: str, done: lending_club.Loaded, found: lending_club_report.Report) -> None:
    """The answer for people."""
    from tallystick.domains.lending.datasets.lending_club import AS_OF

    out.line(f"{done.file}: {_added(done.records, done.added, 'loans')} to {tenant}.")
    out.table(["Status in the file", "Loans"], [*found.statuses.items(), ("All", found.loans)], right=["Loans"])
    homes = list(next(iter(found.groups.values())))
    out.table(
        ["Application", *homes],
        [(kind, *(found.groups[kind][home] for home in homes)) for kind in found.groups],
        right=homes,
    )
    out.table(
        ["More than so many days late", "Loans", "Principal owed"],
        [(late.days, late.loans, str(late.principal)) for late in found.late],
        right=["More than so many days late", "Loans", "Principal owed"],
    )
    _facts(
        out,
        [
            ("Installment is the annuity to the cent", found.annuities_agree, found.loans),
            ("Balance and repaid principal make up the loan", found.balances_agree, found.loans),
            ("Principal, interest and late fees are all that was paid", found.payments_agree, found.loans),
            ("Has paid late fees", found.with_late_fees, found.loans),
            ("Total is given in parts of a cent, and rounded", found.below_the_cent, found.loans),
            ("Loan equals its account", found.accounts_agree, found.loans),
        ],
    )
    for one in found.differ:
        out.line(f"Flagged: row {one.row} has an installment of {one.installment}; its annuity is {one.annuity}.")
    charged_off = f", without {found.charged_off} that is charged off" if found.charged_off else ""
    out.line(f"Boarded as {_became(found.our_statuses)}.")
    out.line(f"The books hold {found.books} of principal{charged_off}; the trial balance is {_zero(found.balanced)}.")
    _look(out, tenant, AS_OF)


def show_berka(out: Output, tenant: str, done: berka.Loaded, found: berka_report.Report) -> None:
    """The answer for people."""
    from tallystick.domains.lending.datasets.berka import AS_OF
    from tallystick.domains.lending.datasets.berka_files import STATUSES

    out.line(
        f"{_added(done.records, done.added, 'loans')}, {done.clients_added:,} clients and {done.accounts_added:,} "
        f"accounts, to {tenant}."
    )
    out.table(
        ["Status in the file", "", "Loans"],
        [*((s, STATUSES[s], count) for s, count in found.statuses.items()), ("All", "", found.loans)],
        right=["Loans"],
    )
    out.table(
        ["Owner", "Loans", "In debt or not paid", "Share"],
        [
            *((sex, total, bad, _share(bad, total)) for sex, (bad, total) in found.groups.items()),
            ("all", found.loans, found.bad, _share(found.bad, found.loans)),
        ],
        right=["Loans", "In debt or not paid", "Share"],
    )
    _facts(
        out,
        [
            ("Amount is payments times months", found.payments_agree, found.loans),
            ("Standing order equals the payment, in whole crowns", found.orders_agree, found.loans),
            ("... of these, to the heller", found.orders_exact, found.loans),
            ("Standing order half a crown apart", found.orders_half_apart, found.loans),
            ("Loan equals its account", found.accounts_agree, found.loans),
        ],
    )
    out.line(
        f"Of {done.orders:,} standing orders {done.loan_orders:,} pay loans, {done.loan_orders_without_loan:,} of them "
        "one that the files do not have."
    )
    out.line(f"Boarded as {_became(found.our_statuses)}.")
    out.line(
        f"{found.late:,} are late, by one installment each: the files do not say how much they owe, and it is at least "
        "that."
    )
    out.line(
        f"The books hold {found.principal} of principal, {found.late_principal} of it on late loans; the trial balance "
        f"is {_zero(found.balanced)}."
    )
    _look(out, tenant, AS_OF)


def _look(out: Output, tenant: str, on: date) -> None:
    out.line(f"The file is of {on}, and late since: tallystick report par --tenant {tenant} --on {on}", "dim")


def _became(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in statuses.items())


def _zero(balanced: bool) -> str:
    return "zero" if balanced else "NOT zero"


def _added(records: int, added: int, what: str) -> str:
    there = f" ({records - added:,} of {records:,} were there already)" if added < records else ""
    return f"{added:,} {what} added{there}"


def _facts(out: Output, facts: Sequence[tuple[str, int, int]]) -> None:
    out.table(["What is true of a loan", "Loans", "Of"], facts, right=["Loans", "Of"])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    """A report with amounts as text."""
    return {name: _value(getattr(struct, name)) for name in struct.__struct_fields__}


def _value(value: Any) -> Any:
    from tallystick.money import Money

    if isinstance(value, Money):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    if isinstance(value, (list, tuple)):
        return [_value(one) for one in value]
    return value
