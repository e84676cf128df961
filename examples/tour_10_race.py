"""The tour, 10: a race. Sixteen workers deliver one payment at once, on connections of their own."""

from __future__ import annotations

from datetime import date

from _scratch import run
from tallystick import Tallystick, usd
from tallystick.testing import Make, Race

DAY = date(2026, 11, 20)


async def main() -> None:
    async with Tallystick.open(domains=["lending"]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op")
        async with tally.session("sunrise", actor="user:42", permissions=["loans.decide"]) as db:
            loan = await Make(db).active_loan(outstanding=usd("100"))

            race = Race(tally, "sunrise")
            ended = await race(16, lambda s: s.loans.repay(loan.id, usd("10"), on=DAY, key="k"))
            await race.close()

            paid = [receipt for receipt in ended.results if not receipt.replayed]
            loan = await db.loans.get(loan.id)
            print(f"{ended.winners} deliveries, {len(paid)} payment, outstanding {loan.outstanding}")


if __name__ == "__main__":
    run(main)
