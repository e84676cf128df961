"""The tour, 4: a filtered keyset page in a FastAPI route."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Query, Request

from _scratch import run
from tallystick import (
    Amortization,
    DayCount,
    Frequency,
    InterestCalc,
    InterestMethod,
    Loan,
    LoanProduct,
    LoginRefused,
    Page,
    PageQuery,
    Tallystick,
    Terms,
    User,
    desc,
    usd,
)
from tallystick.web.fastapi import Db, install

MICRO = LoanProduct(
    code="micro",
    name="Micro loan",
    min_principal=usd("50"),
    max_principal=usd("5000"),
    default_rate=Decimal("0.09"),
    default_installments=3,
    terms=Terms(
        interest_method=InterestMethod.DECLINING_BALANCE,
        amortization=Amortization.EQUAL_INSTALLMENTS,
        interest_calc=InterestCalc.PER_PERIOD,
        day_count=DayCount.THIRTY_360,
        frequency=Frequency.MONTHS,
    ),
)
CLAIMS = {"Bearer token-of-ada": ("sunrise", "user:42")}  # what a verified token says, in an application


def claims(request: Request) -> tuple[str, str]:
    """Whose data the request may see and who sends it, from what it proves and not from what it says."""
    found = CLAIMS.get(request.headers.get("authorization", ""))
    if found is None:
        raise LoginRefused("The request proves nothing about who sends it.")
    return found


async def main() -> None:
    tally = Tallystick.open(domains=["lending"])
    app = FastAPI()
    install(app, tally, tenant=lambda r: claims(r)[0], actor=lambda r: claims(r)[1], permissions=lambda _: ())

    @app.get("/loans")
    async def loans(db: Db, where: Loan.Filter = Query(), page: PageQuery = Depends()) -> Page[Loan]:
        return await db.loans.page(where, order=desc(Loan.disbursed_on), after=page.after, limit=page.limit)

    async with tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op", time_zone="Africa/Lagos")
        async with tally.session("sunrise", actor="user:42", permissions=["loans.decide"]) as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada"))
            micro = await db.products.add(MICRO)
            for amount in ("100", "200", "300"):
                await db.loans.request(product=micro, borrower=ada, principal=usd(amount), key=f"request {amount}")

        transport = httpx.ASGITransport(app)
        sent = {"Authorization": "Bearer token-of-ada"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=sent) as client:
            query: dict[str, Any] = {"principal_from": "150.00 USD", "status_in": ["requested", "approved"], "limit": 1}
            after = None
            while True:
                page = (await client.get("/loans", params=query | ({"after": after} if after else {}))).json()
                print("a page of", len(page["items"]), "with", page["items"][0]["principal"])
                after = page["next"]
                if after is None:
                    break
            wrong = await client.get("/loans", params={"colour": "red"})
            print("a filter there is not:", wrong.status_code, wrong.json()["code"], wrong.json()["field"])
            nobody = await client.get("/loans", headers={"Authorization": "Bearer of-nobody"})
            print("nobody:", nobody.status_code, nobody.json()["title"])
            described = (await client.get("/openapi.json")).json()["paths"]["/loans"]["get"]["parameters"]
            print("described:", len(described), "parameters")


if __name__ == "__main__":
    run(main)
