"""The synchronous facade as type checkers see it: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import assert_type
from uuid import UUID

from tallystick import Application, BehaviorInput, Entity, Loan, Page, Ref, User, backref, usd
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.sync import Claimed, Loans, Repository, Session, Tallystick


class Visit(Entity):
    borrower: Ref[User]


def work(tally: Tallystick, id: UUID, today: date) -> None:
    assert_type(tally.tenants.create("sunrise", name="Sunrise"), TenantInfo)
    with tally.session("sunrise", actor="user:42") as db:
        assert_type(db, Session)
        assert_type(db.loans, Loans)
        assert_type(db.loans.get(id), Loan)
        assert_type(db.loans.get_or_none(id), Loan | None)
        assert_type(db.loans.find(Loan.principal >= usd("1"), limit=5), list[Loan])
        assert_type(db.loans.page(limit=20), Page[Loan])
        assert_type(db.loans.stream(), Iterator[Loan])
        assert_type(db.loans.disburse(id, on=today, key="k"), LoanReceipt)
        assert_type(db[Visit], Repository[Visit])
        assert_type(db[Visit].add(Visit(borrower=Ref(id))), Visit)
        assert_type(db.applications.count(), int)
        assert_type(db.load([Visit(borrower=Ref(id))], Visit.borrower), list[Visit])
        assert_type(db.load([db.users.get(id)], backref(Visit, Visit.borrower)), dict[UUID, list[Visit]])
        assert_type(db.atomic(lambda inner: inner.users.get(id)), User)
        with db.transaction("serializable"):
            assert_type(db.applications.get(id), Application)
        for item in db.inputs.claim(limit=5):
            assert_type(item, Claimed[BehaviorInput])
            with item:
                assert_type(item.value, BehaviorInput)
    for each in tally.system():
        assert_type(each, Session)


def helper(db: Session) -> int:
    """A function of the application's own that takes a session."""
    return db.users.count()


def refused(db: Session, id: UUID) -> None:
    db.loans.get("a text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.loans.disburse(id)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    db.loans.no_such_verb()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
