"""TLS against a server that has it: the programs of the wheel do not, those of Debian's PostgreSQL 15 do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tallystick import Tallystick
from tallystick.domains.catalog import chosen
from tallystick.errors import Invalid, TallystickError, TlsFailed, Unavailable
from tallystick.schema.migrate import migrate, status
from tallystick.schema.provision import provision
from tallystick.settings import Settings, build_url, connect_args
from tallystick.stores.embedded import EmbeddedServer

from .conftest import DEBIAN_15, needs_15, serving

pytestmark = needs_15

#: A name that is not local for us and that no resolver knows; ``elsewhere`` leads it to the loopback address.
REMOTE = "db.lender.test"
LOCAL_NAMES = ("localhost", "127.0.0.1")
APP_PASSWORD, SEAL_PASSWORD = "app p@ss/word", "seal p@ss/word"


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        basic = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = (
            _valid(x509.CertificateBuilder(), days=(-30, 30))
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(basic, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, *names: str, days: tuple[int, int] = (-1, 1), client: bool = False) -> tuple[bytes, bytes]:
        """A certificate for these names and its private key, valid between two days from now, both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            _valid(x509.CertificateBuilder(), days=days)
            .subject_name(_named(names[0]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(certificate), private

    def write(self, file: Path) -> Path:
        """Write the authority's certificate, which is what ``sslrootcert`` names."""
        file.write_bytes(_pem(self.certificate))
        return file


class TlsServer:
    """A server of PostgreSQL 15 whose TLS settings change while it runs."""

    def __init__(self, server: EmbeddedServer, authority: Authority, files: Path) -> None:
        self.server = server
        self.authority = authority
        self.files = files
        self.roots = authority.write(files / "root.pem")
        self.good = authority.issue(*LOCAL_NAMES, REMOTE)
        self._cluster = server.data_dir / "cluster"
        self._super = server._url("postgres", server._passwords["postgres"], "tallystick")

    def url(self, host: str = "127.0.0.1", *, admin: bool = False, **parameters: object) -> str:
        """A URL over TCP with these parameters; those that are None stay away."""
        port = connect_args(self._super)["port"]
        user, password = ("tally_admin", self.server.password("admin")) if admin else ("tally_app", APP_PASSWORD)
        url = build_url(host=host, port=port, user=user, password=password, database="tallystick")
        given = "&".join(f"{key}={value}" for key, value in parameters.items() if value is not None)
        return f"{url}?{given}" if given else url

    async def present(self, certificate: tuple[bytes, bytes] | None, *, hba: str = "host all all all") -> None:
        """Show this certificate from now on, or speak no TLS; ``hba`` is who may come in over TCP."""
        for name, content in zip(("server.crt", "server.key"), certificate or (), strict=False):
            self._write(name, content)
        self._write("clients.crt", _pem(self.authority.certificate))
        self._write("pg_hba.conf", f"local all all scram-sha-256\n{hba} scram-sha-256\n".encode())
        connection = await asyncpg.connect(**connect_args(self._super))
        try:
            # The server keeps its old settings when it cannot load new ones, so a test that goes wrong says so here.
            await connection.execute("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'")
            await connection.execute(f"ALTER SYSTEM SET ssl = {'off' if certificate is None else 'on'}")
            before = await connection.fetchval("SELECT pg_conf_load_time()")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval("SELECT pg_conf_load_time()") == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        finally:
            await connection.close()
        assert "SSL configuration was not reloaded" not in self.server.log_file.read_text()

    def _write(self, name: str, content: bytes) -> None:
        file = self._cluster / name
        file.write_bytes(content)
        file.chmod(0o600)
        if os.geteuid() == 0:
            owner = self._cluster.stat()
            os.chown(file, owner.st_uid, owner.st_gid)


@pytest.fixture(scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsServer]:
    """The server, provisioned and migrated over verified TLS."""
    async with await EmbeddedServer.start(temporary=True, binaries=DEBIAN_15) as server:
        made = TlsServer(server, Authority("Test authority"), tmp_path_factory.mktemp("tls"))
        await made.present(made.good, hba="hostssl all all all")
        admin = made.url(admin=True, sslmode="verify-full", sslrootcert=made.roots)
        await provision(admin, app_password=APP_PASSWORD, seal_password=SEAL_PASSWORD, created_by_us=True)
        await migrate(admin, domains=chosen(None))
        yield made


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Resolve ``REMOTE`` to the loopback address, and record which names were asked for."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def told(host: str, *rest: object, **named: object) -> object:
        asked.append(host)
        return resolve("127.0.0.1" if host == REMOTE else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", told)
    return asked


def _opened(url: str) -> Tallystick:
    return Tallystick.open(settings=Settings(database_url=url, connect_timeout=10.0))


async def _encrypted(tally: Tallystick) -> tuple[bool, str]:
    row = await tally.store.system_row("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    return bool(row["ssl"]), str(row["version"])


async def _refused(url: str, *, within: float = 8.0) -> TallystickError:
    """What opening the application says, and that it says so at once."""
    started = time.monotonic()
    with pytest.raises(TallystickError) as caught:
        async with _opened(url):
            pass
    assert time.monotonic() - started < within
    assert APP_PASSWORD not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("host", LOCAL_NAMES)
async def test_verify_full_with_the_right_authority_works_and_is_encrypted(secure: TlsServer, host: str) -> None:
    await secure.present(secure.good, hba="hostssl all all all")
    async with _opened(secure.url(host, sslmode="verify-full", sslrootcert=secure.roots)) as tally:
        encrypted, version = await _encrypted(tally)
        assert encrypted
        assert version in {"TLSv1.2", "TLSv1.3"}
        slug = f"by-{host.replace('.', '-')}"
        await tally.tenants.create(slug, name="A tenant")
        async with tally.session(slug, actor="test") as db:
            assert await db.applications.count() == 0


async def test_a_server_elsewhere_is_verified_without_being_asked(secure: TlsServer, elsewhere: list[str]) -> None:
    await secure.present(secure.good)
    async with _opened(secure.url(REMOTE, sslrootcert=secure.roots)) as tally:
        assert (await _encrypted(tally))[0]
    assert REMOTE in elsewhere
    # Without a file the system's authorities count, and ours is none of them.
    assert "authority" in (await _refused(secure.url(REMOTE))).problem


async def test_a_wrong_authority_is_named(secure: TlsServer) -> None:
    await secure.present(secure.good)
    wrong = Authority("Test authority").write(secure.files / "wrong.pem")
    for mode in ("verify-full", "verify-ca"):
        problem = await _refused(secure.url(sslmode=mode, sslrootcert=wrong))
        assert type(problem) is TlsFailed
        assert "TLS certificate is not from an authority" in problem.problem
        assert "sslrootcert" in problem.remedy


@pytest.mark.parametrize(
    ("names", "days", "problem", "remedy"),
    [
        (LOCAL_NAMES, (-2, -1), "TLS certificate has expired", "Renew"),
        (LOCAL_NAMES, (1, 2), "TLS certificate is not valid yet", "clocks"),
        ((REMOTE, "127.0.0.2"), (-1, 1), "TLS certificate is for another host", "host in the URL"),
    ],
    ids=["expired", "not yet valid", "another host"],
)
async def test_a_certificate_that_is_no_good_is_named(
    secure: TlsServer, names: tuple[str, ...], days: tuple[int, int], problem: str, remedy: str
) -> None:
    await secure.present(secure.authority.issue(*names, days=days))
    for host in LOCAL_NAMES:
        found = await _refused(secure.url(host, sslmode="verify-full", sslrootcert=secure.roots))
        assert type(found) is TlsFailed
        assert problem in found.problem
        assert remedy in found.remedy
        assert host not in str(found)


async def test_a_plain_server_is_refused_where_tls_is_required(secure: TlsServer, elsewhere: list[str]) -> None:
    await secure.present(None)
    local = secure.url(sslmode="verify-full", sslrootcert=secure.roots)
    for url in (local, secure.url(sslmode="require"), secure.url(REMOTE, sslrootcert=secure.roots)):
        problem = await _refused(url)
        assert type(problem) is TlsFailed
        assert "does not offer TLS" in problem.problem
        assert "ssl = on" in problem.remedy
    async with _opened(secure.url()) as tally:
        assert not (await _encrypted(tally))[0]


async def test_a_server_that_insists_on_tls_says_so_to_a_client_without(secure: TlsServer) -> None:
    await secure.present(secure.good, hba="hostssl all all all")
    problem = await _refused(secure.url())
    assert type(problem) is TlsFailed
    assert "without TLS" in problem.problem
    assert "sslmode=verify-full" in problem.remedy


async def test_a_client_certificate_is_asked_for_and_shown(secure: TlsServer) -> None:
    await secure.present(secure.good, hba="hostssl all all all scram-sha-256 clientcert=verify-full\nlocal none all")
    url = secure.url(sslmode="verify-full", sslrootcert=secure.roots)
    problem = await _refused(url)
    assert type(problem) is TlsFailed
    assert "certificate of the client" in problem.problem
    assert "sslcert=FILE" in problem.remedy
    certificate, key = secure.authority.issue("tally_app", client=True)
    (secure.files / "app.crt").write_bytes(certificate)
    (secure.files / "app.key").write_bytes(key)
    async with _opened(f"{url}&sslcert={secure.files}/app.crt&sslkey={secure.files}/app.key") as tally:
        assert (await _encrypted(tally))[0]


async def test_the_admins_connections_name_tls_too(secure: TlsServer) -> None:
    wrong = Authority("Somebody else").write(secure.files / "else.pem")
    doings: tuple[Callable[[str], Awaitable[object]], ...] = (provision, migrate, status)
    for certificate, said in ((secure.good, "authority"), (None, "does not offer TLS")):
        await secure.present(certificate)
        for do in doings:
            with pytest.raises(TlsFailed, match=said):
                await do(secure.url(admin=True, sslmode="verify-full", sslrootcert=wrong))
    await secure.present(secure.good, hba="hostssl all all all")
    for do in doings:
        with pytest.raises(TlsFailed, match="without TLS"):
            await do(secure.url(admin=True))


@pytest.mark.parametrize("answer", [b"", b"S", b"N", b"E\0\0\0\1", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("then", ["closes", "says nothing"])
async def test_something_that_is_no_server_does_not_hang(secure: TlsServer, answer: bytes, then: str) -> None:
    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        await writer.drain()
        if then == "says nothing":
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"postgresql://u:p@127.0.0.1:{port}/db?sslmode=verify-full&sslrootcert={secure.roots}"
        started = time.monotonic()
        with pytest.raises(Unavailable):
            async with Tallystick.open(settings=Settings(database_url=url, connect_timeout=1.0, retry_attempts=0)):
                pass
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_a_weaker_mode_is_refused_before_anything_is_asked(secure: TlsServer, elsewhere: list[str], mode: str) -> None:
    url = secure.url(REMOTE, sslmode=mode, sslrootcert=secure.roots)
    settings = Settings()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: Tallystick.open(url),
        lambda: Settings.load({"DATABASE_URL": url}),
        lambda: Settings.load({"DATABASE_URL": secure.url(REMOTE), "DB_SSL_MODE": mode}),
        lambda: dataclasses.replace(settings, admin_url=url),
        lambda: connect_args(url),
    )
    for attempt in attempts:
        with pytest.raises(Invalid, match=f"sslmode={mode}") as caught:
            attempt()
        assert "is not local: " in caught.value.problem
        assert "verify-full" in caught.value.remedy
    assert elsewhere == []


async def test_certificates_change_under_a_server_that_runs(place: Path) -> None:
    """A renewed certificate needs a reload and no restart, and links that are open stay open."""
    async with serving(place / "data", temporary=True, binaries=DEBIAN_15) as server:
        made = TlsServer(server, Authority("Test authority"), place)
        await made.present(made.good)
        admin = made.url(admin=True, sslmode="verify-full", sslrootcert=made.roots)
        await provision(admin, app_password=APP_PASSWORD, seal_password=SEAL_PASSWORD, created_by_us=True)
        url = made.url(sslmode="verify-full", sslrootcert=made.roots)
        async with _opened(url) as tally:
            await made.present(made.authority.issue(*LOCAL_NAMES, days=(-2, -1)))
            assert (await _encrypted(tally))[0]
            assert "expired" in (await _refused(url)).problem
            await made.present(made.authority.issue(*LOCAL_NAMES))
            async with _opened(url) as other:
                assert (await _encrypted(other))[0]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _valid(builder: x509.CertificateBuilder, *, days: tuple[int, int]) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    start, end = (now + dt.timedelta(days=day) for day in days)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
