"""A lender's back office on FastAPI: loans, users and applications."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from tests.adoption.apps.backoffice import Question, Repayment, Revealed, Tokens

from tallystick import Application, Loan, LoanReceipt, Page, PageQuery, Tallystick, User, desc
from tallystick.web.fastapi import Db, IfMatch, TallystickRoute, install
from tallystick.web.requests import etag, next_link
from tallystick.web.schemas import encode

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=100, pattern="^[!-~]+$")]


def make_app(tally: Tallystick, tokens: Tokens) -> FastAPI:
    app = FastAPI(title="Back office", version="1")
    install(app, tally, tenant=tokens.tenant, actor=tokens.actor, permissions=tokens.permissions)

    @app.get("/loans")
    async def loans(
        request: Request, response: Response, db: Db, where: Loan.Filter = Query(), page: PageQuery = Depends()
    ) -> Page[Loan]:
        found = await db.loans.page(where, order=desc(Loan.disbursed_on), after=page.after, limit=page.limit)
        link = next_link(str(request.url), found)
        if link is not None:
            response.headers["Link"] = link
        return found

    @app.get("/loans/export", response_class=StreamingResponse)
    async def export(db: Db) -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            async for loan in db.loans.stream(batch=100):
                yield encode(loan) + b"\n"

        return StreamingResponse(lines(), media_type="application/jsonl")

    @app.get("/loans/{id}")
    async def loan(db: Db, id: UUID) -> Loan:
        return await db.loans.get(id)

    @app.post("/loans/{id}/repayments", status_code=201)
    async def repay(db: Db, id: UUID, paid: Repayment, key: Key) -> LoanReceipt:
        return await db.loans.repay(id, paid.amount, on=paid.on, key=key)

    users = APIRouter(prefix="/users", route_class=TallystickRoute)

    @users.get("")
    async def people(db: Db, where: User.Filter = Query(), page: PageQuery = Depends()) -> Page[User]:
        return await db.users.page(where, after=page.after, limit=page.limit)

    @users.post("/search")
    async def search(db: Db, where: User.Filter = Body()) -> list[User]:
        """What is personal stays out of URLs, which proxies write down."""
        return await db.users.find(where, limit=100)

    @users.post("", status_code=201)
    async def add(db: Db, new: User.New) -> User:
        return await db.users.add(new.entity())

    @users.get("/{id}")
    async def user(db: Db, response: Response, id: UUID) -> User:
        found = await db.users.get(id)
        response.headers["ETag"] = etag(found)
        return found

    @users.patch("/{id}")
    async def change(db: Db, id: UUID, change: User.Change, match: IfMatch) -> User:
        found = await db.users.get(id)
        match.check(found)
        return await db.users.update(found, **change.changes())

    app.include_router(users)

    @app.post("/applications", status_code=201)
    async def apply(db: Db, new: Application.New) -> Application:
        return await db.applications.add(new.entity())

    @app.post("/applications/{id}/ssn")
    async def ssn(db: Db, id: UUID, asked: Question) -> Revealed:
        return Revealed(await db.applications.reveal(id, Application.ssn, reason=asked.reason))

    return app
