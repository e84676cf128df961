"""The tour, 9: a worker among many. An item is done, or given back when its handler raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from _scratch import run
from tallystick import BehaviorInput, InputSource, InputType, Tallystick, User

DAY = datetime(2026, 11, 2, tzinfo=UTC)


async def handle(item: BehaviorInput) -> None:
    """Fails for one of them."""
    if item.external_id == "event-3":
        raise RuntimeError("the price feed is down")


async def main() -> None:
    async with Tallystick.open(domains=["reputation"]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op")

        async with tally.session("sunrise", actor="worker:1") as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada"))
            wanted: dict[str, Any] = {"user": ada.ref, "type": InputType.DEFI, "source": InputSource.API}
            await db.inputs.add_many(
                [
                    BehaviorInput(**wanted, external_id=f"event-{n}", occurred_at=DAY + timedelta(hours=n))
                    for n in range(5)
                ]
            )

            async for item in db.inputs.claim(limit=50, lease=timedelta(minutes=5)):
                try:
                    async with item:  # done, or released when it raises
                        await handle(item.value)
                except RuntimeError as problem:
                    print(f"given back: {item.value.external_id}, {problem}")

            print("left:", [i.external_id for i in await db.inputs.unprocessed()])
            async for item in db.inputs.claim():
                print(f"attempt {item.attempt} of {item.value.external_id}")


if __name__ == "__main__":
    run(main)
