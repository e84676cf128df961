"""Extensions as type checkers see them: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Annotated, Any, assert_type

import msgspec

from tallystick import (
    Custom,
    CustomField,
    CustomFieldType,
    Json,
    PersonalCustom,
    Ref,
    Repository,
    Rules,
    Secret,
    Session,
    Statuses,
    Tallystick,
    User,
    UserStatus,
    added,
    key,
)

ON_LEAVE = added(UserStatus, "on_leave")
assert_type(ON_LEAVE, UserStatus)


class DeskUser(User):
    """A user with a desk."""

    desk: str | None = None
    tier: int = 1
    boss: Ref[User] | None = None
    iban: Secret[str] | None = None
    custom: Annotated[Custom, Json(promote={"region": str})] = msgspec.field(default_factory=dict)
    custom_personal: PersonalCustom | None = None

    rules = Rules(
        Statuses("status", {UserStatus.ACTIVE: [ON_LEAVE], ON_LEAVE: [UserStatus.ACTIVE]}),
        extends=User,
    )


async def uses(db: Session) -> None:
    assert_type(db[DeskUser], Repository[DeskUser])
    made = await db[DeskUser].add(DeskUser(email="ada@example.org", desk="1", status=ON_LEAVE))
    assert_type(made, DeskUser)
    assert_type(made.desk, str | None)
    assert_type(made.status, UserStatus)
    assert_type(made.custom, dict[str, Any])
    assert_type(made.custom_personal, dict[str, Any] | None)
    assert_type(
        await db[DeskUser].find(DeskUser.desk == "1", DeskUser.status == ON_LEAVE, DeskUser.tier >= 2), list[DeskUser]
    )
    assert_type(await db[DeskUser].find(key(DeskUser.custom, "region") == "north"), list[DeskUser])
    assert_type(await db[DeskUser].update(made, status=UserStatus.ACTIVE), DeskUser)
    assert_type(await db.users.add(made), User)
    field = await db.custom_fields.define(DeskUser, "region", CustomFieldType.CHOICE, choices=["north"])
    assert_type(field, CustomField)
    assert_type(await db.custom_fields.defined(DeskUser), list[CustomField])


async def opens() -> None:
    async with Tallystick.open(entities=[DeskUser]) as tally:
        assert_type(tally, Tallystick)


def refused() -> None:
    DeskUser(desk=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    DeskUser.tier >= "2"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    added(UserStatus, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
