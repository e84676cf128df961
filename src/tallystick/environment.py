"""The environment: which variable says which setting, and how its text is read.

It stands apart from ``Settings`` because names that other tools made common come and go, and a setting does not
change when one more variable may say it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tallystick.database_url import SSL_MODES, build_url, checked_port, normal_scheme
from tallystick.errors import Invalid, Unsupported

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def read(env: Mapping[str, str], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``env`` and the ``overrides`` that win over it say: settings with values, and what each came from.

    Raises ``Invalid`` or ``Unsupported``, naming the variable and never its value.
    """
    given = {name: value for name, value in env.items() if value.strip()}
    _refuse_unsupported(given)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, (variables, reader) in _READERS.items():
        for variable in variables:
            if name not in overrides and variable in given:
                values[name], origin[name] = reader(variable, given[variable].strip()), variable
                break
    if "database_url" not in values and "database_url" not in overrides:
        _read_parts(given, values, origin)
    values |= overrides
    _apply_ssl_mode(given, values, origin)
    for name in ("database_url", "admin_url", "seal_url"):
        if isinstance(values.get(name), str):
            values[name] = normal_scheme(values[name], origin.get(name, name))
    return values, origin


def _text(_: str, value: str) -> str:
    return value


def _whole(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise unusable(name, "Use a whole number.") from None


def _seconds(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise unusable(name, "Use a number of seconds.") from None


def _seconds_or_milliseconds(name: str, value: str) -> float:
    return _seconds(name, value) / 1000 if name.endswith("_MS") else _seconds(name, value)


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise unusable(name, "Use true or false.")
    return value.lower() in _TRUE


def _path(_: str, value: str) -> Path:
    return Path(value).expanduser()


_READERS: dict[str, tuple[tuple[str, ...], Callable[[str, str], Any]]] = {
    "database_url": (("DATABASE_URL", "POSTGRES_URL"), _text),
    "admin_url": (("TALLYSTICK_ADMIN_URL",), _text),
    "seal_url": (("TALLYSTICK_SEAL_URL",), _text),
    "data_dir": (("TALLYSTICK_DATA_DIR",), _path),
    "key_file": (("TALLYSTICK_KEY_FILE",), _path),
    "key_dir": (("TALLYSTICK_KEY_DIR",), _path),
    "tenant_key_file": (("TALLYSTICK_TENANT_KEY_FILE",), _path),
    "seal_key_file": (("TALLYSTICK_SEAL_KEY_FILE",), _path),
    "anchor_dir": (("TALLYSTICK_ANCHOR_DIR",), _path),
    "pool_min": (("TALLYSTICK_POOL_MIN", "POSTGRES_POOL_MIN", "DB_MIN_CONNECTIONS"), _whole),
    "pool_max": (("TALLYSTICK_POOL_MAX", "POSTGRES_POOL_MAX", "DB_MAX_CONNECTIONS"), _whole),
    "pool_timeout": (("TALLYSTICK_POOL_TIMEOUT", "POSTGRES_POOL_TIMEOUT"), _seconds),
    "connect_timeout": (
        ("TALLYSTICK_CONNECT_TIMEOUT", "POSTGRES_CONNECT_TIMEOUT", "DB_CONNECT_TIMEOUT_SECS"),
        _seconds,
    ),
    "idle_lifetime": (("TALLYSTICK_IDLE_LIFETIME", "POSTGRES_IDLE_TIMEOUT", "DB_IDLE_TIMEOUT_SECS"), _seconds),
    "max_lifetime": (("TALLYSTICK_MAX_LIFETIME", "DB_MAX_LIFETIME_SECS"), _seconds),
    "statement_timeout": (("TALLYSTICK_STATEMENT_TIMEOUT", "POSTGRES_STATEMENT_TIMEOUT"), _seconds),
    "slow_statement": (("TALLYSTICK_SLOW_STATEMENT", "TALLYSTICK_SLOW_MS"), _seconds_or_milliseconds),
    "sql_comments": (("TALLYSTICK_SQL_COMMENTS",), _text),
    "retry_attempts": (("TALLYSTICK_RETRY_ATTEMPTS", "DB_RETRY_ATTEMPTS"), _whole),
    "retry_delay": (("TALLYSTICK_RETRY_DELAY", "DB_RETRY_DELAY_MS"), _seconds_or_milliseconds),
    "auto_migrate": (("TALLYSTICK_AUTO_MIGRATE", "DB_AUTO_MIGRATE"), _flag),
    "test_connection": (("TALLYSTICK_TEST_CONNECTION", "DB_TEST_CONNECTION"), _flag),
    "pooler": (("TALLYSTICK_POOLER",), _text),
    "role_prefix": (("TALLYSTICK_ROLE_PREFIX",), _text),
    "engine": (("TALLYSTICK_ENGINE",), _text),
    "profile": (("TALLYSTICK_PROFILE",), _text),
    "workers": (("TALLYSTICK_WORKERS", "WEB_CONCURRENCY"), _whole),
}


def _refuse_unsupported(given: Mapping[str, str]) -> None:
    kind = given.get("DATABASE_TYPE", "postgresql").strip().lower()
    if kind in {"mongodb", "mongo"}:
        raise Unsupported(
            "DATABASE_TYPE asks for MongoDB, which cannot be the main store: it has no row-level security.",
            remedy="Unset DATABASE_TYPE or set it to postgresql.",
        )
    if kind not in {"postgresql", "postgres"}:
        raise unusable("DATABASE_TYPE", "Use postgresql.")
    if not _flag("DB_ENABLE_TRANSACTIONS", given.get("DB_ENABLE_TRANSACTIONS", "true").strip()):
        raise Unsupported(
            "DB_ENABLE_TRANSACTIONS asks to work without transactions, which money and audit cannot.",
            remedy="Unset DB_ENABLE_TRANSACTIONS or set it to true.",
        )


def _read_parts(given: Mapping[str, str], values: dict[str, Any], origin: dict[str, str]) -> None:
    """Build the database URL from single variables; a password alone names no server."""
    for prefix, databases in (("POSTGRES", ("DB", "DATABASE")), ("DB", ("NAME", "DATABASE"))):
        named = {key: given.get(f"{prefix}_{key}", "").strip() for key in ("HOST", "PORT", "USER")}
        database = next((given[f"{prefix}_{key}"].strip() for key in databases if f"{prefix}_{key}" in given), "")
        if database or any(named.values()):
            port = checked_port(named["PORT"] or "5432", f"{prefix}_PORT")
            values["database_url"] = build_url(
                host=named["HOST"] or "localhost",
                port=port,
                user=named["USER"],
                password=given.get(f"{prefix}_PASSWORD"),
                database=database,
            )
            origin["database_url"] = f"{prefix}_HOST"
            return


def _apply_ssl_mode(given: Mapping[str, str], values: dict[str, Any], origin: dict[str, str]) -> None:
    """Write the mode of POSTGRES_SSL or DB_SSL_MODE into URLs that do not say one, so that it is checked there."""
    variable = "POSTGRES_SSL" if "POSTGRES_SSL" in given else "DB_SSL_MODE"
    if variable == "POSTGRES_SSL":
        mode = "verify-full" if _flag("POSTGRES_SSL", given["POSTGRES_SSL"].strip()) else "disable"
    elif "DB_SSL_MODE" in given:
        mode = given["DB_SSL_MODE"].strip().lower()
        if mode not in SSL_MODES:
            raise unusable("DB_SSL_MODE", f"Use one of: {', '.join(SSL_MODES)}.")
    else:
        return
    for name in ("database_url", "admin_url", "seal_url"):
        url = values.get(name)
        query = url.partition("?")[2] if isinstance(url, str) else "ssl="
        if "sslmode=" not in query and "ssl=" not in query:
            values[name] = f"{url}{'&' if query else '?'}sslmode={mode}"
            origin[name] = f"{origin.get(name, name)} with {variable}"


def unusable(name: str, remedy: str) -> Invalid:
    """The error of a setting or variable whose value cannot be used; the value is never in it."""
    return Invalid(f"{name} has a value that cannot be used.", field=name, remedy=remedy)
