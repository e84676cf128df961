"""A database URL: taken apart and judged, put together, handed to the driver, shown without its password.

It stands apart from ``Settings`` because whatever connects reads URLs, the settings' and its own alike, and because
one place decides which servers may be reached without verified TLS.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from tallystick.errors import Invalid

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_URL_PARAMETERS = ("host", "port", "sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")
_LOCAL_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108  where libpq looks too


class Target:
    """A database URL taken apart, with its TLS mode decided."""

    __slots__ = ("database", "hosts", "parameters", "password", "ports", "sslmode", "user")

    def __init__(self, url: str, name: str) -> None:
        try:
            parts = urlsplit(normal_scheme(url, name))
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
            self.ports.append(checked_port(port or given_port or "5432", name))
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
        if mode not in SSL_MODES:
            raise Invalid(f"{name} has an unknown sslmode.", field=name, remedy=f"Use one of: {', '.join(SSL_MODES)}.")
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
    target = Target(url, name)
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


def _invalid_url(name: str) -> Invalid:
    return Invalid(
        f"{name} is not a PostgreSQL URL.",
        field=name,
        remedy="Write postgresql://user:password@host:5432/database and percent-encode special characters.",
    )


def normal_scheme(url: str, name: str) -> str:
    """The URL with the scheme that all drivers know. Raises ``Invalid`` for another database's."""
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


def checked_port(text: str, name: str) -> int:
    """A port from its text. Raises ``Invalid``, which calls its origin by ``name``."""
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
