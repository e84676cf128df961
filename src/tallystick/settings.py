"""Settings: what the environment says about databases, pools and files, checked before anything connects.

Where several names mean one thing, the first that is set wins:

=====================  =================================================================================
database               ``DATABASE_URL`` > ``POSTGRES_URL`` > ``POSTGRES_HOST``/``PORT``/``DB``/``USER``/
                       ``PASSWORD`` > ``DB_HOST``/``PORT``/``NAME``/``USER``/``PASSWORD`` > embedded server
TLS                    ``sslmode`` in the URL > ``POSTGRES_SSL`` > ``DB_SSL_MODE`` > ``verify-full``
everything else        ``TALLYSTICK_*`` > ``POSTGRES_*`` > ``DB_*`` > the default
=====================  =================================================================================

A variable that is set but empty counts as not set.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tallystick.database_url import Target, build_url, connect_args, masked
from tallystick.environment import read, unusable
from tallystick.errors import Invalid
from tallystick.schema.roles import Roles

# Applications take what reads and writes URLs from here, beside the settings that hold them.
__all__ = ["Settings", "build_url", "connect_args", "masked"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """Everything Tallystick reads from its environment, as one checked value.

    Pass it around instead of reading ``os.environ`` in several places. Times are seconds. ``database_url`` is
    the application role, ``admin_url`` provisions and migrates, ``seal_url`` seals; without ``database_url`` the
    embedded server in ``data_dir`` is used; ``tenant_key_file`` goes with a hardened database, ``seal_key_file`` signs
    checkpoints of the audit trail, ``anchor_dir`` keeps them outside the database. ``workers`` is how many processes
    like this one there are. ``slow_statement`` logs statements that take as long, ``sql_comments`` tells the server
    what runs (docs/seeing.md). Raises ``Invalid`` or ``Unsupported``, naming the variable and never its value.
    ``pool_max`` is 10 because eight worker processes then fit in PostgreSQL's 100 connections.

    ``profile="serverless"`` is for processes that serve one request at a time and are frozen in between: one
    connection, opened when it is first needed and not trusted after a pause, and short waits. What is named beside it
    wins; given to the constructor, a field that has the ordinary default counts as not named.
    """

    database_url: str | None = None
    admin_url: str | None = None
    seal_url: str | None = None
    data_dir: Path | None = None
    key_file: Path | None = None
    key_dir: Path | None = None
    tenant_key_file: Path | None = None
    seal_key_file: Path | None = None
    anchor_dir: Path | None = None
    pool_min: int = 0
    pool_max: int = 10
    pool_timeout: float = 30.0
    connect_timeout: float = 30.0
    idle_lifetime: float = 300.0
    max_lifetime: float | None = None
    statement_timeout: float = 30.0
    slow_statement: float | None = None
    sql_comments: Literal["off", "verb", "request"] = "off"
    retry_attempts: int = 3
    retry_delay: float = 1.0
    auto_migrate: bool = False
    test_connection: bool = True
    pooler: Literal["session", "transaction"] = "session"
    role_prefix: str = "tally"
    engine: Literal["plain", "citus"] = "plain"
    profile: Literal["server", "serverless"] = "server"
    workers: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _PROFILES.get(self.profile, ()) and getattr(self, field.name) == field.default:
                object.__setattr__(self, field.name, _PROFILES[self.profile][field.name])
        self._check({})

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings from ``env`` (``os.environ`` when absent); ``overrides`` are fields that win over it.

        An override of ``None`` is a value too: ``database_url=None`` asks for the embedded server.
        """
        known = {field.name for field in fields(cls)}
        for name in overrides:
            if name not in known:
                raise Invalid("There is no such setting.", field=name, remedy=f"Settings are: {', '.join(known)}.")
        values, origin = read(os.environ if env is None else env, overrides)
        settings = object.__new__(cls)
        usual = _PROFILES.get(values.get("profile", ""), {})
        for field in fields(cls):
            object.__setattr__(settings, field.name, values.get(field.name, usual.get(field.name, field.default)))
        settings._check(origin)
        return settings

    @property
    def embedded(self) -> bool:
        """True when no database was named, so that the embedded server is the database."""
        return self.database_url is None

    @property
    def roles(self) -> Roles:
        """The database roles that go with ``role_prefix``."""
        return Roles(self.role_prefix)

    def __repr__(self) -> str:
        shown = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                hidden = field.name.endswith("_url") and isinstance(value, str)
                shown.append(f"{field.name}={masked(value) if hidden else value!r}")
        return f"Settings({', '.join(shown)})"

    def _check(self, origin: Mapping[str, str]) -> None:
        for name, (low, high, whole) in _BOUNDS.items():
            value: Any = getattr(self, name)
            if name in _OPTIONAL and value is None:
                continue
            if not _is_number(value, whole=whole) or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise unusable(origin.get(name, name), f"Use {kind} from {low:g} to {high:g}.")
        if self.pool_min > self.pool_max:
            raise unusable(origin.get("pool_min", "pool_min"), f"Use at most the pool's maximum, {self.pool_max}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unusable(origin.get(name, name), f"Use one of: {', '.join(choices)}.")
        for name in ("auto_migrate", "test_connection"):
            if not isinstance(getattr(self, name), bool):
                raise unusable(origin.get(name, name), "Use True or False.")
        Roles(self.role_prefix)
        for name in ("database_url", "admin_url", "seal_url"):
            url = getattr(self, name)
            if url is not None:
                Target(url, origin.get(name, name))


_BOUNDS: dict[str, tuple[float, float, bool]] = {
    "pool_min": (0, 10_000, True),
    "pool_max": (1, 10_000, True),
    "pool_timeout": (0.001, 86_400, False),
    "connect_timeout": (0.001, 3_600, False),
    "idle_lifetime": (0, 31_536_000, False),
    "max_lifetime": (1, 31_536_000, False),
    "statement_timeout": (0, 86_400, False),
    "slow_statement": (0, 86_400, False),
    "retry_attempts": (0, 100, True),
    "retry_delay": (0, 3_600, False),
    "workers": (1, 100_000, True),
}
_OPTIONAL = frozenset({"max_lifetime", "slow_statement"})
_CHOICES = {
    "pooler": ("session", "transaction"),
    "engine": ("plain", "citus"),
    "profile": ("server", "serverless"),
    "sql_comments": ("off", "verb", "request"),
}
_PROFILES: dict[Any, dict[str, Any]] = {
    "serverless": {
        "pool_max": 1,
        "pool_timeout": 5.0,
        "connect_timeout": 5.0,
        "idle_lifetime": 5.0,
        "statement_timeout": 10.0,
        "retry_attempts": 1,
        "retry_delay": 0.2,
        "test_connection": False,
    }
}


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return math.isfinite(value)
