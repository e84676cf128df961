"""The tour, 8: score somebody who agreed to it. The model runs outside any transaction; the consent is asked again."""

from __future__ import annotations

from _scratch import run
from tallystick import ConsentMissing, Purpose, Score, Tallystick, User, UserStatus


def model(features: list[int]) -> int:
    """Stands for a model that takes its time."""
    return 500 + sum(features)


async def main() -> None:
    async with Tallystick.open(domains=["reputation"]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op")

        async with tally.session("sunrise", actor="user:42", permissions=["consents.manage"]) as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada", status=UserStatus.ACTIVE))
            await db.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="2026-1")

            grant = await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
            score = await db.scores.add(Score(user=ada.ref, value=model([120, 92]), model="m7"), consent=grant)
            print(f"scored: {score.value} of 1000 by {score.model}")

            await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
            try:
                await db.scores.add(Score(user=ada.ref, value=model([400]), model="m8"), consent=grant)
            except ConsentMissing as refused:
                print(f"taken back meanwhile: [{refused.code}], scores: {await db.scores.count()}")


if __name__ == "__main__":
    run(main)
