"""Tenants: who the data belongs to, with plan, limits, time zone and settings."""

from __future__ import annotations

import time as monotonic
from collections.abc import AsyncIterator
from datetime import date, datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.clock import find_zone
from tallystick.documents import written
from tallystick.errors import Conflict, Denied, Duplicate, Invalid, NotFound, QuotaExceeded, TenantMissing
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.session import Session

_REMEMBER = 30.0
_KEPT = 10_000
_SLUG = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LIMITS = {
    "applications": "max_applications_per_month",
    "devices": "max_devices",
    "users": "max_users",
}


class Plan(StrEnum):
    """A tenant's subscription plan."""

    FREE = "free"
    BASIC = "basic"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class TenantInfo(msgspec.Struct, frozen=True):
    """What a session needs to know of its tenant."""

    id: UUID
    slug: str
    name: str
    time_zone: str
    cut_off: time
    is_active: bool


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's whole record. Limits count per calendar month (applications) or at a time (devices, users)."""

    id: UUID
    slug: str
    name: str
    domain: str | None = None
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    feature_flags: dict[str, Any] = msgspec.field(default_factory=dict)
    plan: Plan = Plan.FREE
    time_zone: str = "UTC"
    cut_off: time = time(0)
    is_active: bool = True
    max_applications_per_month: int = 10_000
    max_devices: int = 100
    max_users: int = 50
    billing_email: str | None = None
    billing_address: dict[str, Any] | None = None
    version: int = 1
    created_at: datetime
    updated_at: datetime

    def flag(self, name: str) -> bool:
        """Whether a feature flag is on."""
        return bool(self.feature_flags.get(name, False))


_SETTABLE = frozenset(Tenant.__struct_fields__) - {"id", "slug", "version", "created_at", "updated_at"}
_KINDS = {f.name: f.type for f in msgspec.structs.fields(Tenant)}
_COLUMNS = ", ".join(Tenant.__struct_fields__)
_INFO = "id, slug, name, time_zone, cut_off, is_active"


class Tenants:
    """The registry of tenants: not itself tenant data, so reached through the application and not a session."""

    def __init__(self, app: Tallystick) -> None:
        self._app = app
        self._known: dict[Any, tuple[float, TenantInfo]] = {}

    async def create(self, slug: str, *, name: str, **options: Any) -> TenantInfo:
        """Register a tenant. Options are the settable fields of ``Tenant``. Raises ``Duplicate``, ``Invalid``."""
        await self._app.ready()
        slug = _slug(slug)
        changes = _changes(options)
        try:
            row = await self._app.store.system_row(
                f"SELECT {_INFO} FROM tally_ref.tenant_create($1, $2, $3, $4::jsonb)",
                uuid7(),
                slug,
                _name(name),
                changes,
            )
        except Duplicate as taken:
            what = "domain" if "domain" in taken.rule else "slug"
            raise Duplicate(
                f"A tenant with this {what} exists already.",
                entity="Tenant",
                rule=taken.rule,
                remedy="Choose another, or open a session for the existing tenant.",
            ) from None
        return self._remember(TenantInfo(*row))

    def known(self, tenant: Any) -> TenantInfo | None:
        """A tenant resolved within the last half minute; no I/O."""
        if tenant.__class__ is TenantInfo:
            tenant = tenant.id
        found = self._known.get(tenant) if isinstance(tenant, (str, UUID)) else None
        if found is None or found[0] < monotonic.monotonic() or not found[1].is_active:
            return None
        return found[1] if self._app.is_ready else None

    async def resolve(self, tenant: str | UUID | TenantInfo | None) -> TenantInfo:
        """The tenant of a slug or id. Raises ``TenantMissing`` for none, ``NotFound``, ``Denied`` when inactive."""
        info = await self.find(tenant)
        if not info.is_active:
            raise Denied(
                "The tenant is not active.", remedy="An operator can open it: `tallystick tenants reopen SLUG`."
            )
        return info

    async def find(self, tenant: str | UUID | TenantInfo | None) -> TenantInfo:
        """The tenant of a slug or id, active or not. Raises ``TenantMissing`` for none, ``NotFound``."""
        await self._app.ready()
        if isinstance(tenant, TenantInfo):
            tenant = tenant.id
        if tenant is None or tenant == "":
            raise TenantMissing("A session needs a tenant.", remedy='Name it: tally.session("sunrise", actor=...).')
        if not isinstance(tenant, (str, UUID)):
            raise Invalid("A tenant is named by its slug or its id.", field="tenant")
        store = self._app.store
        if isinstance(tenant, UUID):
            row = await store.system_row(
                f"SELECT {_INFO} FROM tally_ref.tenant_by_slug("
                "(SELECT slug FROM tally_ref.tenant_list() WHERE id = $1))",
                tenant,
            )
        elif not set(tenant) - _SLUG:
            row = await store.system_row(f"SELECT {_INFO} FROM tally_ref.tenant_by_slug($1)", tenant)
        else:
            row = None
        if row is None:
            raise NotFound(
                "No tenant has this slug or id.",
                entity="Tenant",
                remedy="Create it with tally.tenants.create(slug, name=...), or look at `tallystick tenants`.",
            )
        return self._remember(TenantInfo(*row))

    async def all(self) -> AsyncIterator[tuple[UUID, str, bool]]:
        """Id, slug and whether active, of every tenant, by slug."""
        await self._app.ready()
        for row in await self._app.store.system_rows("SELECT id, slug, is_active FROM tally_ref.tenant_list()"):
            yield row[0], row[1], row[2]

    async def record(self, db: Session) -> Tenant:
        """The session's own tenant."""
        rows = await db.unit.call(f"SELECT {_COLUMNS} FROM tally_ref.tenant_self()", ())
        if not rows:
            raise NotFound("The tenant no longer exists.", entity="Tenant")
        return _tenant(rows[0])

    async def update(self, db: Session, **changes: Any) -> Tenant:
        """Change the session's own tenant; needs the permission "tenant.manage".

        Give ``version`` to be told (``StaleVersion``) when somebody else changed it since.
        """
        await db.require("tenant.manage")
        version = changes.pop("version", None)
        document = _changes(changes, version)
        rows = await db.unit.call(f"SELECT {_COLUMNS} FROM tally_ref.tenant_update($1::jsonb)", (document,))
        self._known.clear()
        return _tenant(rows[0])

    async def consume(self, db: Session, metric: str, amount: int, period: date | None) -> int:
        """Count towards a quota in one guarded statement; see ``Session.consume``."""
        limit_field = _LIMITS.get(metric) if isinstance(metric, str) else None
        if limit_field is None:
            raise Invalid("No quota has this name.", field="metric", remedy=f"Quotas are: {', '.join(_LIMITS)}.")
        if amount.__class__ is not int or not 0 < amount < 2**31:
            raise Invalid("A quota counts whole things, one or more.", field="amount")
        if period is not None and period.__class__ is not date:
            raise Invalid("A quota's period is a date.", field="period", remedy="Leave it out for the current one.")
        record = await self.record(db)
        limit: int = getattr(record, limit_field)
        at = (period or db.today()).replace(day=1) if metric == "applications" else date(1970, 1, 1)
        try:
            rows = await db.unit.call("SELECT tally.consume($1, $2, $3, $4)", (metric, at, amount, limit))
        except QuotaExceeded:
            raise QuotaExceeded(
                f"The tenant's limit of {limit} {metric} is used up.", metric=metric, limit=limit
            ) from None
        return int(rows[0][0])

    def _remember(self, info: TenantInfo) -> TenantInfo:
        if len(self._known) > _KEPT:
            self._known.clear()
        until = monotonic.monotonic() + _REMEMBER
        self._known[info.slug] = self._known[info.id] = (until, info)
        return info


def _slug(slug: Any) -> str:
    if not isinstance(slug, str) or not 1 <= len(slug) <= 63 or set(slug) - _SLUG or slug[0] == "-":
        raise Invalid(
            "A slug is 1 to 63 lower-case letters, digits and dashes.",
            field="slug",
            remedy='Write something like "sunrise-co-op".',
        )
    return slug


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or "\0" in name:
        raise Invalid("A tenant's name is 1 to 200 characters of text.", field="name")
    return name.strip()


def _changes(options: dict[str, Any], version: int | None = None) -> str:
    unknown = set(options) - _SETTABLE
    if unknown:
        raise Invalid(
            f"A tenant has no setting {sorted(unknown)[0][:40]}.",
            field=sorted(unknown)[0][:40],
            remedy=f"Settings are: {', '.join(sorted(_SETTABLE))}.",
        )
    for name, value in options.items():
        if not _fits(name, value):
            raise Invalid(f"{name} has a value of the wrong kind.", field=name, remedy="See the fields of Tenant.")
    if version is not None and version.__class__ is not int:
        raise Invalid("version should be a whole number.", field="version", remedy="Take it from the record.")
    if "time_zone" in options:
        find_zone(options["time_zone"])
    for name in _LIMITS.values():
        if name in options and (options[name].__class__ is not int or not 0 <= options[name] < 2**31):
            raise Invalid(f"{name} should be a whole number from 0.", field=name)
    text, problem = written(options if version is None else {**options, "version": version}, dict)
    if problem:
        raise Invalid(f"A tenant's setting {problem}.", field="settings", remedy="Use what JSON can hold.")
    return text


def _fits(name: str, value: Any) -> bool:
    try:
        msgspec.convert(value, _KINDS[name])
    except msgspec.ValidationError:
        return False
    return True


def _tenant(row: Any) -> Tenant:
    values = dict(zip(Tenant.__struct_fields__, row, strict=True))
    for name in ("settings", "feature_flags", "billing_address"):
        values[name] = msgspec.json.decode(values[name]) if values[name] is not None else None
    values["plan"] = Plan(values["plan"])
    return Tenant(**values)


__all__ = ["Conflict", "Plan", "Tenant", "TenantInfo", "Tenants"]
