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

import ipaddress
import math
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from tallystick.errors import Invalid, Unsupported
from tallystick.schema.roles import Roles

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_URL_PARAMETERS = ("host", "port", "sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")
_LOCAL_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108  where libpq looks too
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


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
        given = {name: value for name, value in (os.environ if env is None else env).items() if value.strip()}
        _refuse_unsupported(given)
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for name, (variables, read) in _READERS.items():
            for variable in variables:
                if name not in overrides and variable in given:
                    values[name], origin[name] = read(variable, given[variable].strip()), variable
                    break
        if "database_url" not in values and "database_url" not in overrides:
            _read_parts(given, values, origin)
        values |= overrides
        _apply_ssl_mode(given, values, origin)
        for name in ("database_url", "admin_url", "seal_url"):
            if isinstance(values.get(name), str):
                values[name] = _normal_scheme(values[name], origin.get(name, name))
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
                raise _invalid(origin.get(name, name), f"Use {kind} from {low:g} to {high:g}.")
        if self.pool_min > self.pool_max:
            raise _invalid(origin.get("pool_min", "pool_min"), f"Use at most the pool's maximum, {self.pool_max}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise _invalid(origin.get(name, name), f"Use one of: {', '.join(choices)}.")
        for name in ("auto_migrate", "test_connection"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(origin.get(name, name), "Use True or False.")
        Roles(self.role_prefix)
        for name in ("database_url", "admin_url", "seal_url"):
            url = getattr(self, name)
            if url is not None:
                _Target(url, origin.get(name, name))


class _Target:
    """A database URL taken apart, with its TLS mode decided."""

    __slots__ = ("database", "hosts", "parameters", "password", "ports", "sslmode", "user")

    def __init__(self, url: str, name: str) -> None:
        try:
            parts = urlsplit(_normal_scheme(url, name))
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise _invalid_url(name) from None
        self.parameters = dict(pairs)
        if unknown := set(self.parameters) - set(_URL_PARAMETERS):
            raise Invalid(
                f"{name} has {len(unknown)} parameter(s) that are not understood.",
                field=name,
                remedy=f"Parameters are: {', '.join(_URL_PARAMETERS)}. Percent-encode ? and # in a password.",
            )
        account, _, location = parts.netloc.rpartition("@")
        user, separator, password = account.partition(":")
        self.user = unquote(user) or None
        self.password = unquote(password) if separator else None
        self.database = unquote(parts.path[1:]) or None
        if parts.fragment or "\x00" in unquote(url) or "/" in (self.database or ""):
            raise _invalid_url(name)
        self.hosts: list[str] = []
        self.ports: list[int] = []
        given_host = self.parameters.get("host")
        given_port = self.parameters.get("port")
        for item in (given_host if given_host is not None else location).split(","):
            host, port = (item, "") if item.startswith(("/", "@")) else _host_and_port(item, name)
            self.ports.append(_port(port or given_port or "5432", name))
            self.hosts.append(unquote(host))
        if self.hosts == [""]:
            self.hosts = list(_LOCAL_HOSTS)
            self.ports *= len(self.hosts)
        if "" in self.hosts:
            raise _invalid_url(name)
        self.sslmode = self._decide_tls(name)

    def _decide_tls(self, name: str) -> str:
        mode = self.parameters.get("sslmode", self.parameters.get("ssl", ""))
        mode = {"true": "verify-full", "false": "disable"}.get(mode, mode)
        local = all(_is_local(host) for host in self.hosts)
        if not mode:
            return "disable" if local else "verify-full"
        if mode not in _SSL_MODES:
            raise Invalid(f"{name} has an unknown sslmode.", field=name, remedy=f"Use one of: {', '.join(_SSL_MODES)}.")
        if not local and mode != "verify-full":
            raise Invalid(
                f"{name} asks for sslmode={mode} on a server that is not local: {_WHY_REFUSED[mode]}.",
                field=name,
                remedy="Use sslmode=verify-full, with sslrootcert=FILE for an authority of your own.",
            )
        return mode

    def ssl(self, name: str) -> ssl.SSLContext | str | bool:
        """What asyncpg takes: a verifying context, a mode by name (local servers only), or False."""
        if self.sslmode == "disable":
            return False
        if self.sslmode not in {"verify-ca", "verify-full"}:
            return self.sslmode
        roots, certificate = self.parameters.get("sslrootcert"), self.parameters.get("sslcert")
        try:
            context = ssl.create_default_context(cafile=None if roots in {None, "", "system"} else roots)
            if certificate:
                context.load_cert_chain(certificate, self.parameters.get("sslkey"))
        except (OSError, ssl.SSLError):
            raise Invalid(
                f"{name} names a certificate file that cannot be used.",
                field=name,
                remedy="Check that sslrootcert, sslcert and sslkey are readable PEM files.",
            ) from None
        context.check_hostname = self.sslmode == "verify-full"
        return context


def connect_args(url: str, *, name: str = "The database URL") -> dict[str, Any]:
    """Keyword arguments of ``asyncpg.connect`` for a database URL.

    They are complete where it matters: host and TLS never fall back to ``PG*`` variables, so the environment cannot
    move or weaken a connection that was checked. Raises ``Invalid`` (which calls the URL by ``name``).
    """
    target = _Target(url, name)
    arguments: dict[str, Any] = {"host": target.hosts, "port": target.ports, "ssl": target.ssl(name)}
    if len(target.hosts) == 1:
        arguments |= {"host": target.hosts[0], "port": target.ports[0]}
    arguments |= {
        key: value
        for key, value in (("user", target.user), ("password", target.password), ("database", target.database))
        if value is not None
    }
    if "target_session_attrs" in target.parameters:
        arguments["target_session_attrs"] = target.parameters["target_session_attrs"]
    return arguments


def masked(url: str) -> str:
    """The URL with its password replaced, for logs and screens."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    account, at, location = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    account = f"{user}:***" if colon else user
    return parts._replace(netloc=f"{account}{at}{location}", query=parts.query and "...", fragment="").geturl()


def build_url(
    *, host: str, port: int, user: str | None, password: str | None, database: str | None, sslmode: str = ""
) -> str:
    """A database URL from its parts, each percent-encoded; a host that is a path becomes a socket directory."""
    account = quote(user or "", safe="") + (f":{quote(password, safe='')}" if password else "")
    parameters: dict[str, str | int] = {}
    if host.startswith(("/", "@")):
        parameters, location = {"host": host, "port": port}, ""
    else:
        location = f"[{host}]:{port}" if ":" in host else f"{quote(host, safe='')}:{port}"
    if sslmode:
        parameters["sslmode"] = sslmode
    query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
    return f"postgresql://{account}{'@' if account else ''}{location}/{quote(database or '', safe='')}{query}"


_WHY_REFUSED = {
    "disable": "everything would travel in clear text",
    "allow": "it sends everything in clear text unless the server insists",
    "prefer": "whoever sits between can switch encryption off",
    "require": "it encrypts to whoever answers, without checking who that is",
    "verify-ca": "it does not check the server's name",
}

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


def _invalid(name: str, remedy: str) -> Invalid:
    return Invalid(f"{name} has a value that cannot be used.", field=name, remedy=remedy)


def _invalid_url(name: str) -> Invalid:
    return Invalid(
        f"{name} is not a PostgreSQL URL.",
        field=name,
        remedy="Write postgresql://user:password@host:5432/database and percent-encode special characters.",
    )


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return math.isfinite(value)


def _text(_: str, value: str) -> str:
    return value


def _whole(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise _invalid(name, "Use a whole number.") from None


def _seconds(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise _invalid(name, "Use a number of seconds.") from None


def _seconds_or_milliseconds(name: str, value: str) -> float:
    return _seconds(name, value) / 1000 if name.endswith("_MS") else _seconds(name, value)


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise _invalid(name, "Use true or false.")
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
        raise _invalid("DATABASE_TYPE", "Use postgresql.")
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
            port = _port(named["PORT"] or "5432", f"{prefix}_PORT")
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
        if mode not in _SSL_MODES:
            raise _invalid("DB_SSL_MODE", f"Use one of: {', '.join(_SSL_MODES)}.")
    else:
        return
    for name in ("database_url", "admin_url", "seal_url"):
        url = values.get(name)
        query = url.partition("?")[2] if isinstance(url, str) else "ssl="
        if "sslmode=" not in query and "ssl=" not in query:
            values[name] = f"{url}{'&' if query else '?'}sslmode={mode}"
            origin[name] = f"{origin.get(name, name)} with {variable}"


def _normal_scheme(url: str, name: str) -> str:
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower().partition("+")[0] not in {"postgresql", "postgres"}:
        raise _invalid_url(name)
    return f"postgresql://{rest}"


def _host_and_port(item: str, name: str) -> tuple[str, str]:
    if item.startswith("["):
        host, bracket, rest = item[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _invalid_url(name)
        return host, rest[1:]
    if item.count(":") > 1:
        raise _invalid_url(name)
    host, _, port = item.partition(":")
    return host, port


def _port(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise Invalid(
            f"{name} has a port that is not a number from 1 to 65535.", field=name, remedy="Correct the port."
        )
    return int(text)


def _is_local(host: str) -> bool:
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
