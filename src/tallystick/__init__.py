"""Tallystick: the data layer for lending and credit in Python.

Importing this package loads nothing heavy; each public name is resolved when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "tallystick.app": ("Tallystick",),
    "tallystick.assets": ("Asset", "asset", "register"),
    "tallystick.claims": ("Claimed",),
    "tallystick.clock": ("Clock", "FixedClock", "SystemClock"),
    "tallystick.domains.identity.tenants": ("Plan", "Tenant", "TenantInfo"),
    "tallystick.domains.identity.users": ("User", "UserRole", "UserStatus"),
    "tallystick.domains.identity.wallets": ("Wallet",),
    "tallystick.domains.underwriting.applications": ("Application", "ApplicationStatus", "EmploymentStatus"),
    "tallystick.domains.underwriting.decisions": ("Decision", "DecisionKind", "Outcome"),
    "tallystick.domains.underwriting.statistics": ("Comparison", "GroupRate", "Statistics", "compare"),
    "tallystick.entity": ("Entity",),
    "tallystick.errors": (
        "CommitUnknown",
        "Conflict",
        "ConsentMissing",
        "Declaration",
        "Denied",
        "Duplicate",
        "Erased",
        "InsufficientFunds",
        "Invalid",
        "InvalidTransition",
        "KeyReused",
        "LeaseLost",
        "LoginRefused",
        "MigrationUnsafe",
        "NotFound",
        "NotMigrated",
        "NotProvisioned",
        "OnHold",
        "QuotaExceeded",
        "RoleMissing",
        "Serialization",
        "StaleVersion",
        "StillReferenced",
        "StorageFull",
        "TallystickError",
        "Tampered",
        "TenantMissing",
        "Unavailable",
        "UnknownReference",
        "Unsupported",
        "WrongTenant",
    ),
    "tallystick.fields": (
        "ChainAmount",
        "Fraction",
        "Json",
        "Length",
        "Mask",
        "Numeric",
        "OwnAsset",
        "Personal",
        "Price",
        "Rate",
        "Ref",
        "Search",
    ),
    "tallystick.ids": ("uuid7",),
    "tallystick.loading": ("backref",),
    "tallystick.money": ("Money", "Rounding", "eur", "gbp", "kes", "money", "ngn", "sum_of", "usd"),
    "tallystick.page": ("Offset", "Page", "PageQuery"),
    "tallystick.privacy.keys": ("KeyProvider", "LocalKeys"),
    "tallystick.privacy.sealed": ("Secret", "secret"),
    "tallystick.query": (
        "all_of",
        "any_of",
        "asc",
        "at_least",
        "at_most",
        "between",
        "contains",
        "desc",
        "key",
        "less_than",
        "missing",
        "more_than",
        "not_",
        "one_of",
        "prefix",
        "present",
    ),
    "tallystick.repository": ("Repository",),
    "tallystick.rules": ("Check", "Index", "Queue", "Rules", "Transitions", "Unique", "append_only"),
    "tallystick.session": ("Session",),
    "tallystick.settings": ("Settings",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from tallystick.app import (
        Tallystick as Tallystick,
    )
    from tallystick.assets import (
        Asset as Asset,
    )
    from tallystick.assets import (
        asset as asset,
    )
    from tallystick.assets import (
        register as register,
    )
    from tallystick.claims import (
        Claimed as Claimed,
    )
    from tallystick.clock import (
        Clock as Clock,
    )
    from tallystick.clock import (
        FixedClock as FixedClock,
    )
    from tallystick.clock import (
        SystemClock as SystemClock,
    )
    from tallystick.domains.identity.tenants import (
        Plan as Plan,
    )
    from tallystick.domains.identity.tenants import (
        Tenant as Tenant,
    )
    from tallystick.domains.identity.tenants import (
        TenantInfo as TenantInfo,
    )
    from tallystick.domains.identity.users import (
        User as User,
    )
    from tallystick.domains.identity.users import (
        UserRole as UserRole,
    )
    from tallystick.domains.identity.users import (
        UserStatus as UserStatus,
    )
    from tallystick.domains.identity.wallets import (
        Wallet as Wallet,
    )
    from tallystick.domains.underwriting.applications import (
        Application as Application,
    )
    from tallystick.domains.underwriting.applications import (
        ApplicationStatus as ApplicationStatus,
    )
    from tallystick.domains.underwriting.applications import (
        EmploymentStatus as EmploymentStatus,
    )
    from tallystick.domains.underwriting.decisions import (
        Decision as Decision,
    )
    from tallystick.domains.underwriting.decisions import (
        DecisionKind as DecisionKind,
    )
    from tallystick.domains.underwriting.decisions import (
        Outcome as Outcome,
    )
    from tallystick.domains.underwriting.statistics import (
        Comparison as Comparison,
    )
    from tallystick.domains.underwriting.statistics import (
        GroupRate as GroupRate,
    )
    from tallystick.domains.underwriting.statistics import (
        Statistics as Statistics,
    )
    from tallystick.domains.underwriting.statistics import (
        compare as compare,
    )
    from tallystick.entity import (
        Entity as Entity,
    )
    from tallystick.errors import (
        CommitUnknown as CommitUnknown,
    )
    from tallystick.errors import (
        Conflict as Conflict,
    )
    from tallystick.errors import (
        ConsentMissing as ConsentMissing,
    )
    from tallystick.errors import (
        Declaration as Declaration,
    )
    from tallystick.errors import (
        Denied as Denied,
    )
    from tallystick.errors import (
        Duplicate as Duplicate,
    )
    from tallystick.errors import (
        Erased as Erased,
    )
    from tallystick.errors import (
        InsufficientFunds as InsufficientFunds,
    )
    from tallystick.errors import (
        Invalid as Invalid,
    )
    from tallystick.errors import (
        InvalidTransition as InvalidTransition,
    )
    from tallystick.errors import (
        KeyReused as KeyReused,
    )
    from tallystick.errors import (
        LeaseLost as LeaseLost,
    )
    from tallystick.errors import (
        LoginRefused as LoginRefused,
    )
    from tallystick.errors import (
        MigrationUnsafe as MigrationUnsafe,
    )
    from tallystick.errors import (
        NotFound as NotFound,
    )
    from tallystick.errors import (
        NotMigrated as NotMigrated,
    )
    from tallystick.errors import (
        NotProvisioned as NotProvisioned,
    )
    from tallystick.errors import (
        OnHold as OnHold,
    )
    from tallystick.errors import (
        QuotaExceeded as QuotaExceeded,
    )
    from tallystick.errors import (
        RoleMissing as RoleMissing,
    )
    from tallystick.errors import (
        Serialization as Serialization,
    )
    from tallystick.errors import (
        StaleVersion as StaleVersion,
    )
    from tallystick.errors import (
        StillReferenced as StillReferenced,
    )
    from tallystick.errors import (
        StorageFull as StorageFull,
    )
    from tallystick.errors import (
        TallystickError as TallystickError,
    )
    from tallystick.errors import (
        Tampered as Tampered,
    )
    from tallystick.errors import (
        TenantMissing as TenantMissing,
    )
    from tallystick.errors import (
        Unavailable as Unavailable,
    )
    from tallystick.errors import (
        UnknownReference as UnknownReference,
    )
    from tallystick.errors import (
        Unsupported as Unsupported,
    )
    from tallystick.errors import (
        WrongTenant as WrongTenant,
    )
    from tallystick.fields import (
        ChainAmount as ChainAmount,
    )
    from tallystick.fields import (
        Fraction as Fraction,
    )
    from tallystick.fields import (
        Json as Json,
    )
    from tallystick.fields import (
        Length as Length,
    )
    from tallystick.fields import (
        Mask as Mask,
    )
    from tallystick.fields import (
        Numeric as Numeric,
    )
    from tallystick.fields import (
        OwnAsset as OwnAsset,
    )
    from tallystick.fields import (
        Personal as Personal,
    )
    from tallystick.fields import (
        Price as Price,
    )
    from tallystick.fields import (
        Rate as Rate,
    )
    from tallystick.fields import (
        Ref as Ref,
    )
    from tallystick.fields import (
        Search as Search,
    )
    from tallystick.ids import (
        uuid7 as uuid7,
    )
    from tallystick.loading import (
        backref as backref,
    )
    from tallystick.money import (
        Money as Money,
    )
    from tallystick.money import (
        Rounding as Rounding,
    )
    from tallystick.money import (
        eur as eur,
    )
    from tallystick.money import (
        gbp as gbp,
    )
    from tallystick.money import (
        kes as kes,
    )
    from tallystick.money import (
        money as money,
    )
    from tallystick.money import (
        ngn as ngn,
    )
    from tallystick.money import (
        sum_of as sum_of,
    )
    from tallystick.money import (
        usd as usd,
    )
    from tallystick.page import (
        Offset as Offset,
    )
    from tallystick.page import (
        Page as Page,
    )
    from tallystick.page import (
        PageQuery as PageQuery,
    )
    from tallystick.privacy.keys import (
        KeyProvider as KeyProvider,
    )
    from tallystick.privacy.keys import (
        LocalKeys as LocalKeys,
    )
    from tallystick.privacy.sealed import (
        Secret as Secret,
    )
    from tallystick.privacy.sealed import (
        secret as secret,
    )
    from tallystick.query import (
        all_of as all_of,
    )
    from tallystick.query import (
        any_of as any_of,
    )
    from tallystick.query import (
        asc as asc,
    )
    from tallystick.query import (
        at_least as at_least,
    )
    from tallystick.query import (
        at_most as at_most,
    )
    from tallystick.query import (
        between as between,
    )
    from tallystick.query import (
        contains as contains,
    )
    from tallystick.query import (
        desc as desc,
    )
    from tallystick.query import (
        key as key,
    )
    from tallystick.query import (
        less_than as less_than,
    )
    from tallystick.query import (
        missing as missing,
    )
    from tallystick.query import (
        more_than as more_than,
    )
    from tallystick.query import (
        not_ as not_,
    )
    from tallystick.query import (
        one_of as one_of,
    )
    from tallystick.query import (
        prefix as prefix,
    )
    from tallystick.query import (
        present as present,
    )
    from tallystick.repository import (
        Repository as Repository,
    )
    from tallystick.rules import (
        Check as Check,
    )
    from tallystick.rules import (
        Index as Index,
    )
    from tallystick.rules import (
        Queue as Queue,
    )
    from tallystick.rules import (
        Rules as Rules,
    )
    from tallystick.rules import (
        Transitions as Transitions,
    )
    from tallystick.rules import (
        Unique as Unique,
    )
    from tallystick.rules import (
        append_only as append_only,
    )
    from tallystick.session import (
        Session as Session,
    )
    from tallystick.settings import (
        Settings as Settings,
    )

__all__ = [
    "Application",
    "ApplicationStatus",
    "Asset",
    "ChainAmount",
    "Check",
    "Claimed",
    "Clock",
    "CommitUnknown",
    "Comparison",
    "Conflict",
    "ConsentMissing",
    "Decision",
    "DecisionKind",
    "Declaration",
    "Denied",
    "Duplicate",
    "EmploymentStatus",
    "Entity",
    "Erased",
    "FixedClock",
    "Fraction",
    "GroupRate",
    "Index",
    "InsufficientFunds",
    "Invalid",
    "InvalidTransition",
    "Json",
    "KeyProvider",
    "KeyReused",
    "LeaseLost",
    "Length",
    "LocalKeys",
    "LoginRefused",
    "Mask",
    "MigrationUnsafe",
    "Money",
    "NotFound",
    "NotMigrated",
    "NotProvisioned",
    "Numeric",
    "Offset",
    "OnHold",
    "Outcome",
    "OwnAsset",
    "Page",
    "PageQuery",
    "Personal",
    "Plan",
    "Price",
    "Queue",
    "QuotaExceeded",
    "Rate",
    "Ref",
    "Repository",
    "RoleMissing",
    "Rounding",
    "Rules",
    "Search",
    "Secret",
    "Serialization",
    "Session",
    "Settings",
    "StaleVersion",
    "Statistics",
    "StillReferenced",
    "StorageFull",
    "SystemClock",
    "Tallystick",
    "TallystickError",
    "Tampered",
    "Tenant",
    "TenantInfo",
    "TenantMissing",
    "Transitions",
    "Unavailable",
    "Unique",
    "UnknownReference",
    "Unsupported",
    "User",
    "UserRole",
    "UserStatus",
    "Wallet",
    "WrongTenant",
    "all_of",
    "any_of",
    "append_only",
    "asc",
    "asset",
    "at_least",
    "at_most",
    "backref",
    "between",
    "compare",
    "contains",
    "desc",
    "eur",
    "gbp",
    "kes",
    "key",
    "less_than",
    "missing",
    "money",
    "more_than",
    "ngn",
    "not_",
    "one_of",
    "prefix",
    "present",
    "register",
    "secret",
    "sum_of",
    "usd",
    "uuid7",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
