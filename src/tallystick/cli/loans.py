"""``loans``: look at a tenant's loans, and take or undo a payment by hand."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.domains.lending.loans import Loan
    from tallystick.session import Session

app = typer.Typer(help="A tenant's loans: list, show, and payments by hand.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose loans.")]
Number = Annotated[int, typer.Argument(help="The loan's number.")]
On = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The business date; today by default."),
]
Key = Annotated[str, typer.Option("--key", help="The same key again is the same payment, not another one.")]
_ACTOR = "cli"


@command(app, "list")
async def list_(
    run: Run,
    *,
    tenant: Tenant,
    status: Annotated[str | None, typer.Option("--status", help="active, closed, overpaid, ...")] = None,
    late: Annotated[bool, typer.Option("--late", help="Only those with something past due.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many.")] = 20,
    after: Annotated[str | None, typer.Option("--after", help="The cursor of the page before.")] = None,
) -> Answer:
    """A page of loans by number, the newest first."""
    from tallystick.domains.lending.loans import Loan, LoanStatus
    from tallystick.errors import Invalid
    from tallystick.query import desc, less_than

    where: list[Any] = []
    if status is not None:
        known = [s.value for s in LoanStatus]
        if status not in known:
            raise Invalid("There is no such status.", field="status", remedy=f"Statuses are: {', '.join(known)}.")
        where.append(Loan.status == LoanStatus(status))
    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=["loans.*"]) as db:
        if late:
            where.append(less_than(Loan.oldest_due, db.today()))
        page = await db.loans.page(*where, order=desc(Loan.number), limit=limit, after=after, count=True)
        today = db.today()

    def show(out: Output) -> None:
        columns = ("number", "status", "principal", "outstanding", "paid out", "unpaid since", "days")
        rows = [
            (
                str(one.number),
                one.status.value,
                str(one.principal),
                str(one.outstanding),
                one.disbursed_on,
                one.oldest_due if one.oldest_due is not None and one.oldest_due < today else None,
                (today - one.oldest_due).days if one.oldest_due is not None and one.oldest_due < today else None,
            )
            for one in page.items
        ]
        out.table(columns, rows, right=("number", "principal", "outstanding", "days"))
        out.line(
            f"{len(page.items)} of {page.total} loans" + (f"; next page: --after {page.next}" if page.next else "")
        )

    return Answer({"loans": [_short(one) for one in page.items], "total": page.total, "next": page.next}, show)


@command(app, "show")
async def show_(run: Run, number: Number, tenant: Tenant) -> Answer:
    """One loan: what it owes, its installments, what happened to it."""
    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=["loans.*"]) as db:
        loan = await db.loans.by_number(number)
        rows = await db.loans.schedule(loan)
        transactions = await db.loans.transactions(loan)
        history = await db.loans.steps(loan)
        gone = {t.reverses.id for t in transactions if t.reverses is not None}

    def show(out: Output) -> None:
        out.line(f"Loan {loan.number}: {loan.status.value}", "bold")
        out.line(f"{loan.principal} at {loan.annual_rate:.2%} a year, paid out on {loan.disbursed_on or '-'}")
        out.line(
            f"outstanding {loan.outstanding}: principal {loan.principal_outstanding}, interest "
            f"{loan.interest_outstanding}, fees {loan.fees_outstanding}, penalties {loan.penalties_outstanding}"
        )
        if loan.overpaid:
            out.line(f"owed to the borrower {loan.overpaid}")
        money = ("principal", "interest", "charges", "left")
        out.table(
            ("#", "due", *money, "settled on"),
            [(i.seq, i.due, i.principal, i.interest, i.fees + i.penalties, i.outstanding, i.settled_on) for i in rows],
            right=("#", *money),
        )
        parts = ("amount", "principal", "interest", "charges", "overpaid")
        out.table(
            ("seq", "date", "what", *parts),
            [
                (
                    t.seq,
                    t.effective,
                    f"{t.kind.value} (reversed)" if t.id in gone else t.kind.value,
                    t.amount,
                    t.principal,
                    t.interest,
                    t.fees + t.penalties,
                    t.overpaid,
                )
                for t in transactions
            ],
            right=("seq", *parts),
        )
        out.line(" → ".join(step.after.value for step in history), "dim")

    document = {
        **_short(loan),
        "installments": [
            {
                "seq": i.seq,
                "due": i.due,
                "principal": str(i.principal),
                "interest": str(i.interest),
                "fees": str(i.fees),
                "penalties": str(i.penalties),
                "outstanding": str(i.outstanding),
                "settled_on": i.settled_on,
            }
            for i in rows
        ],
        "transactions": [
            {
                "id": str(t.id),
                "seq": t.seq,
                "kind": t.kind.value,
                "date": t.effective,
                "amount": str(t.amount),
                "reversed": t.id in gone,
            }
            for t in transactions
        ],
        "history": [step.after.value for step in history],
    }
    return Answer(document, show)


@command(app, "repay")
async def repay(
    run: Run,
    number: Number,
    amount: Annotated[str, typer.Argument(help="In the loan's asset, for instance 120.00.")],
    *,
    tenant: Tenant,
    key: Key,
    on: On = None,
) -> Answer:
    """Take a payment. The key makes it safe to repeat."""
    from tallystick.money import Money

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=["loans.*"]) as db:
        loan = await db.loans.by_number(number)
        receipt = await db.loans.repay(loan, Money.of(amount, loan.asset), on=_day(on), key=key)
    t = receipt.transaction
    again = " (delivered before)" if receipt.replayed else ""
    return Answer(
        {"transaction": str(t.id), "replayed": receipt.replayed, **_short(receipt.loan)},
        lambda out: out.line(
            f"{t.amount} on {t.effective}{again}: principal {t.principal}, interest {t.interest}, charges "
            f"{t.fees + t.penalties}, too much {t.overpaid}. Outstanding {receipt.loan.outstanding}."
        ),
    )


@command(app, "reverse")
async def reverse(
    run: Run,
    number: Number,
    seq: Annotated[int, typer.Argument(help="The transaction's number in `loans show`.")],
    *,
    tenant: Tenant,
    key: Key,
    on: On = None,
) -> Answer:
    """Take a transaction back; later payments move up."""
    from tallystick.domains.lending.transactions import LoanTransaction

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=["loans.*"]) as db:
        loan = await db.loans.by_number(number)
        found = await db[LoanTransaction].one(LoanTransaction.loan == loan.ref, LoanTransaction.seq == seq)
        receipt = await db.loans.reverse(found, on=_day(on), key=key)
    return Answer(
        {"transaction": str(receipt.id), "replayed": receipt.replayed, **_short(receipt.loan)},
        lambda out: out.line(f"Reversed {found.kind.value} {seq}. Outstanding {receipt.loan.outstanding}."),
    )


@command(app, "payoff")
async def payoff(run: Run, number: Number, tenant: Tenant, on: On = None) -> Answer:
    """What would settle a loan on a day."""
    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=["loans.*"]) as db:
        quote = await db.loans.payoff(await _numbered(db, number), on=_day(on))
    parts = {name: str(getattr(quote, name)) for name in ("total", "principal", "interest", "fees", "penalties")}
    return Answer(
        {"on": quote.on, **parts, "unearned": str(quote.unearned)},
        lambda out: out.line(
            f"{quote.total} settles it on {quote.on}: principal {quote.principal}, interest {quote.interest}, charges "
            f"{quote.fees + quote.penalties}; {quote.unearned} of interest is not earned by then."
        ),
    )


async def _numbered(db: Session, number: int) -> Loan:
    return await db.loans.by_number(number)


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _short(loan: Loan) -> dict[str, Any]:
    return {
        "number": loan.number,
        "id": str(loan.id),
        "status": loan.status.value,
        "principal": str(loan.principal),
        "outstanding": str(loan.outstanding),
        "overpaid": str(loan.overpaid),
        "disbursed_on": loan.disbursed_on,
        "oldest_due": loan.oldest_due,
    }
