"""What an actor may do: permissions by role, looked up once a session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tallystick.domains.identity.access import actor_user
from tallystick.errors import Invalid, RoleMissing

if TYPE_CHECKING:
    from tallystick.session import Session

ROLE_PERMISSIONS: dict[str, frozenset[str]] = {
    "user": frozenset(),
    "borrower": frozenset(),
    "lender": frozenset(),
    "underwriter": frozenset({"applications.decide", "applications.review"}),
    "reviewer": frozenset({"applications.review", "secrets.reveal"}),
    "auditor": frozenset({"audit.read", "secrets.reveal"}),
    "admin": frozenset({"*"}),
}
"""What each role of a user account allows; an account's own ``permissions`` add to it."""


class Permissions:
    """The permissions of one session.

    Given when the session is opened; else, for an actor "user:<id>", those of that active user account; else none.
    """

    __slots__ = ("_db", "_held")

    def __init__(self, db: Session, given: Iterable[str] | None) -> None:
        if isinstance(given, str):
            # Taken letter by letter, "loans.*" would be the wildcard for everything.
            raise Invalid(
                "Permissions are a collection of names.",
                field="permissions",
                remedy='Write permissions=["applications.decide"].',
            )
        self._db = db
        self._held: frozenset[str] | None = None if given is None else frozenset(given)

    async def require(self, permission: str) -> None:
        """Raise ``RoleMissing`` unless the permission is held, by name or by a wildcard such as "applications.*"."""
        if self._held is None:
            self._held = await self._look_up()
        area = permission.partition(".")[0]
        if not self._held & {permission, f"{area}.*", "*"}:
            raise RoleMissing(f"The actor does not hold the permission {permission}.")

    async def _look_up(self) -> frozenset[str]:
        user_id = actor_user(self._db)
        if user_id is None:
            return frozenset()
        from tallystick.domains.identity.users import UserStatus

        user = await self._db.users.get_or_none(user_id)
        if user is None or user.status is not UserStatus.ACTIVE:
            return frozenset()
        return ROLE_PERMISSIONS.get(user.role.value, frozenset()) | frozenset(user.permissions)
