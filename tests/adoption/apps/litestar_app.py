"""The same back office on Litestar."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Litestar, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody
from tests.adoption.apps.backoffice import Question, Repayment, Revealed, Tokens

from tallystick import Application, Loan, LoanReceipt, Page, Tallystick, User, desc
from tallystick.web.litestar import Db, IfMatch, Paging, TallystickPlugin, filtered
from tallystick.web.requests import etag, next_link

Key = Annotated[str, HeaderParameter(name="Idempotency-Key", min_length=1, max_length=100, pattern="^[!-~]+$")]


@get("/loans", dependencies={"where": filtered(Loan.Filter)})
async def loans(request: Request, db: Db, where: NamedDependency[Loan.Filter], page: Paging) -> Response[Page[Loan]]:
    found = await db.loans.page(where, order=desc(Loan.disbursed_on), after=page.after, limit=page.limit)
    link = next_link(str(request.url), found)
    return Response(found, headers={"Link": link} if link is not None else None)


@get("/loans/{id:uuid}")
async def loan(db: Db, id: FromPath[UUID]) -> Loan:
    return await db.loans.get(id)


@post("/loans/{id:uuid}/repayments")
async def repay(db: Db, id: FromPath[UUID], data: JSONBody[Repayment], key: Key) -> LoanReceipt:
    return await db.loans.repay(id, data.amount, on=data.on, key=key)


@get("/users", dependencies={"where": filtered(User.Filter)})
async def users(db: Db, where: NamedDependency[User.Filter], page: Paging) -> Page[User]:
    return await db.users.page(where, after=page.after, limit=page.limit)


@post("/users")
async def add(db: Db, data: JSONBody[User.New]) -> User:
    return await db.users.add(data.entity())


@get("/users/{id:uuid}")
async def user(db: Db, id: FromPath[UUID]) -> Response[User]:
    found = await db.users.get(id)
    return Response(found, headers={"ETag": etag(found)})


@patch("/users/{id:uuid}")
async def change(db: Db, id: FromPath[UUID], data: JSONBody[User.Change], match: IfMatch) -> User:
    found = await db.users.get(id)
    match.check(found)
    return await db.users.update(found, **data.changes())


@post("/applications")
async def apply(db: Db, data: JSONBody[Application.New]) -> Application:
    return await db.applications.add(data.entity())


@post("/applications/{id:uuid}/ssn")
async def ssn(db: Db, id: FromPath[UUID], data: JSONBody[Question]) -> Revealed:
    return Revealed(await db.applications.reveal(id, Application.ssn, reason=data.reason))


def make_app(tally: Tallystick, tokens: Tokens) -> Litestar:
    plugin = TallystickPlugin(tally, tenant=tokens.tenant, actor=tokens.actor, permissions=tokens.permissions)
    return Litestar([loans, loan, repay, users, add, user, change, apply, ssn], plugins=[plugin])
