"""Settings: names of all sources, precedence, TLS, refusals that name the variable and never its value."""

from __future__ import annotations

import ssl
from pathlib import Path

import asyncpg
import pytest

from tallystick.errors import Invalid, Unsupported
from tallystick.settings import Settings, build_url, connect_args, masked
from tallystick.tls import tls_failure

SECRET = "s3cr3t-pa55"
REMOTE = f"postgresql://tally_app:{SECRET}@db.example.com:6432/lending"
LOCAL = f"postgresql://tally_app:{SECRET}@localhost/lending"


def test_nothing_set_means_the_embedded_server_and_a_pool_that_eight_processes_survive() -> None:
    settings = Settings.load({})
    assert settings.embedded
    assert settings.database_url is None
    assert settings.pool_min == 0
    assert settings.pool_max * 8 <= 100
    assert settings.pooler == "session"
    assert settings.engine == "plain"
    assert settings.auto_migrate is False
    assert settings.roles.app == "tally_app"


def test_load_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", LOCAL)
    assert Settings.load().database_url == LOCAL


def test_precedence_of_the_database() -> None:
    env = {
        "DATABASE_URL": "postgresql://a@localhost/one",
        "POSTGRES_URL": "postgresql://a@localhost/two",
        "POSTGRES_HOST": "localhost",
        "POSTGRES_DB": "three",
        "DB_HOST": "localhost",
        "DB_NAME": "four",
    }
    seen = []
    for gone in ("DATABASE_URL", "POSTGRES_URL", "POSTGRES_HOST", "DB_HOST"):
        url = Settings.load(env).database_url
        assert url is not None
        seen.append(connect_args(url)["database"])
        del env[gone]
        env.pop({"POSTGRES_HOST": "POSTGRES_DB", "DB_HOST": "DB_NAME"}.get(gone, ""), None)
    assert seen == ["one", "two", "three", "four"]
    assert Settings.load(env).embedded


def test_postgres_parts_as_the_sources_name_them() -> None:
    env = {
        "DATABASE_TYPE": "postgresql",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": "5433",
        "POSTGRES_DB": "risk monitor",
        "POSTGRES_USER": "po/st@gres",
        "POSTGRES_PASSWORD": "p:a/s@s?w#o%rd",
        "POSTGRES_SSL": "false",
        "POSTGRES_POOL_MAX": "7",
        "POSTGRES_POOL_MIN": "2",
        "POSTGRES_CONNECT_TIMEOUT": "4.5",
        "POSTGRES_IDLE_TIMEOUT": "60",
    }
    settings = Settings.load(env)
    assert settings.database_url is not None
    assert connect_args(settings.database_url) == {
        "host": "127.0.0.1",
        "port": 5433,
        "ssl": False,
        "user": "po/st@gres",
        "password": "p:a/s@s?w#o%rd",
        "database": "risk monitor",
    }
    assert (settings.pool_min, settings.pool_max) == (2, 7)
    assert (settings.connect_timeout, settings.idle_lifetime) == (4.5, 60.0)


def test_postgres_database_is_another_name_and_a_password_alone_names_no_server() -> None:
    url = Settings.load({"POSTGRES_DATABASE": "x"}).database_url
    assert url is not None
    assert connect_args(url)["database"] == "x"
    assert connect_args(url)["host"] == "localhost"
    assert Settings.load({"POSTGRES_PASSWORD": SECRET, "POSTGRES_POOL_MAX": "3"}).embedded


def test_all_twelve_names_of_the_fourth_source() -> None:
    settings = Settings.load(
        {
            "POSTGRES_URL": LOCAL,
            "DB_MAX_CONNECTIONS": "50",
            "DB_MIN_CONNECTIONS": "5",
            "DB_CONNECT_TIMEOUT_SECS": "31",
            "DB_IDLE_TIMEOUT_SECS": "600",
            "DB_MAX_LIFETIME_SECS": "1800",
            "DB_SSL_MODE": "prefer",
            "DB_AUTO_MIGRATE": "true",
            "DB_ENABLE_TRANSACTIONS": "true",
            "DB_TEST_CONNECTION": "false",
            "DB_RETRY_ATTEMPTS": "4",
            "DB_RETRY_DELAY_MS": "1500",
        }
    )
    assert settings.database_url == f"{LOCAL}?sslmode=prefer"
    assert (settings.pool_min, settings.pool_max) == (5, 50)
    assert (settings.connect_timeout, settings.idle_lifetime, settings.max_lifetime) == (31, 600, 1800)
    assert (settings.auto_migrate, settings.test_connection) == (True, False)
    assert (settings.retry_attempts, settings.retry_delay) == (4, 1.5)


def test_our_own_names_win_over_the_others() -> None:
    env = {"TALLYSTICK_POOL_MAX": "3", "POSTGRES_POOL_MAX": "4", "DB_MAX_CONNECTIONS": "5"}
    assert Settings.load(env).pool_max == 3
    del env["TALLYSTICK_POOL_MAX"]
    assert Settings.load(env).pool_max == 4


def test_paths_urls_and_choices_of_our_own() -> None:
    settings = Settings.load(
        {
            "TALLYSTICK_DATA_DIR": "~/data",
            "TALLYSTICK_KEY_FILE": "/keys/one",
            "TALLYSTICK_ADMIN_URL": "postgres://admin@localhost/lending",
            "TALLYSTICK_SEAL_URL": "postgresql+asyncpg://seal@localhost/lending",
            "TALLYSTICK_POOLER": "transaction",
            "TALLYSTICK_ROLE_PREFIX": "acme",
            "TALLYSTICK_ENGINE": "citus",
        }
    )
    assert settings.data_dir == Path.home() / "data"
    assert settings.key_file == Path("/keys/one")
    assert settings.admin_url == "postgresql://admin@localhost/lending"
    assert settings.seal_url == "postgresql://seal@localhost/lending"
    assert (settings.pooler, settings.engine) == ("transaction", "citus")
    assert settings.roles.owner == "acme_owner"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.load({"DATABASE_URL": "", "POSTGRES_HOST": " ", "DB_MAX_CONNECTIONS": ""}) == Settings()


def test_overrides_win_and_none_is_a_value() -> None:
    env = {"DATABASE_URL": LOCAL, "TALLYSTICK_POOL_MAX": "3"}
    assert Settings.load(env, pool_max=9).pool_max == 9
    assert Settings.load(env, database_url=None).embedded
    with pytest.raises(Invalid, match="no such setting"):
        Settings.load(env, pool_maximum=9)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TALLYSTICK_POOL_MAX", "0"),
        ("DB_MAX_CONNECTIONS", "-1"),
        ("DB_MAX_CONNECTIONS", "ten"),
        ("POSTGRES_POOL_MIN", "11"),
        ("DB_MIN_CONNECTIONS", "1e3"),
        ("DB_CONNECT_TIMEOUT_SECS", "nan"),
        ("DB_CONNECT_TIMEOUT_SECS", "inf"),
        ("DB_CONNECT_TIMEOUT_SECS", "0"),
        ("DB_IDLE_TIMEOUT_SECS", "-5"),
        ("DB_MAX_LIFETIME_SECS", "soon"),
        ("DB_SSL_MODE", "sometimes"),
        ("DB_AUTO_MIGRATE", "perhaps"),
        ("DB_TEST_CONNECTION", "2"),
        ("DB_RETRY_ATTEMPTS", "1000"),
        ("DB_RETRY_DELAY_MS", "x"),
        ("POSTGRES_PORT", "abc"),
        ("POSTGRES_PORT", "70000"),
        ("POSTGRES_PORT", "9" * 5000),
        ("POSTGRES_SSL", "ja"),
        ("TALLYSTICK_POOLER", "statement"),
        ("TALLYSTICK_ENGINE", "oracle"),
        ("DATABASE_TYPE", "sqlite"),
    ],
)
def test_a_bad_value_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        Settings.load({variable: value})
    assert variable in str(caught.value)
    assert caught.value.remedy
    assert variable.endswith(("PORT", "POOL_MIN")) or value not in str(caught.value).split()


def test_a_bad_role_prefix_is_refused() -> None:
    for prefix in ("pg", "pg_x", "Tally", "1x", "a" * 33, 'x"; DROP'):
        with pytest.raises(Invalid):
            Settings.load({"TALLYSTICK_ROLE_PREFIX": prefix})


def test_what_cannot_be_done_is_unsupported_with_a_remedy() -> None:
    for env in ({"DATABASE_TYPE": "mongodb"}, {"DB_ENABLE_TRANSACTIONS": "false"}):
        with pytest.raises(Unsupported) as caught:
            Settings.load(env)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@localhost/db",
        f"postgresql://u:{SECRET}@localhost:abc/db",
        f"postgresql://u:{SECRET}@localhost:0/db",
        f"postgresql://u:{SECRET}@[::1/db",
        f"postgresql://u:{SECRET}#x@localhost/db",
        f"postgresql://u:{SECRET}?x@localhost/db",
        f"postgresql://u:1?{SECRET}@localhost/db",
        f"postgresql://u:{SECRET}@localhost/db?password={SECRET}",
        f"postgresql://u:{SECRET}@localhost/db?sslmode={SECRET}",
        f"postgresql://u:{SECRET}@localhost/a/b",
        f"postgresql://u:{SECRET}@localhost,/b",
        f"postgresql://u:{SECRET}@localhost/a%00b",
        f"localhost {SECRET}",
        SECRET,
    ],
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "POSTGRES_URL", "TALLYSTICK_ADMIN_URL", "TALLYSTICK_SEAL_URL"])
def test_a_bad_url_is_refused_without_echoing_it(variable: str, url: str) -> None:
    with pytest.raises(Invalid) as caught:
        Settings.load({variable: url})
    assert variable in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_repr_and_masked_hide_passwords() -> None:
    settings = Settings.load({"DATABASE_URL": REMOTE, "TALLYSTICK_ADMIN_URL": LOCAL, "TALLYSTICK_POOL_MAX": "4"})
    assert SECRET not in repr(settings)
    assert "tally_app:***@db.example.com:6432" in repr(settings)
    assert "pool_max=4" in repr(settings)
    assert masked(f"postgresql://u:{SECRET}@[::1/db") == "***"


def test_settings_are_frozen_and_checked_when_made_by_hand() -> None:
    with pytest.raises(AttributeError):
        Settings().pool_max = 3  # type: ignore[misc]
    with pytest.raises(Invalid, match="pool_max"):
        Settings(pool_max=0)
    with pytest.raises(Invalid, match="auto_migrate"):
        Settings(auto_migrate="yes")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="database_url"):
        Settings(database_url="nonsense")


def test_tls_is_verified_for_every_server_that_is_not_local() -> None:
    context = connect_args(REMOTE)["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert connect_args(f"{REMOTE}?sslmode=verify-full")["ssl"].check_hostname


def test_a_certificate_that_only_newer_pythons_refuse_is_not_called_a_strangers() -> None:
    found = ssl.SSLCertVerificationError(1, "certificate verify failed")
    for code, said in ((20, "authority that is trusted"), (85, "RFC 5280"), (92, "RFC 5280")):
        found.verify_code = code
        told = tls_failure(found)
        assert told is not None
        assert said in told.problem
        assert told.remedy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "LOCALHOST", "%2Frun%2Fpostgresql"])
def test_loopback_and_sockets_need_no_tls(host: str) -> None:
    assert connect_args(f"postgresql://u@{host}/db")["ssl"] is False


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_weaker_tls_is_refused_for_a_server_that_is_not_local(mode: str) -> None:
    for env in ({"DATABASE_URL": f"{REMOTE}?sslmode={mode}"}, {"DATABASE_URL": REMOTE, "DB_SSL_MODE": mode}):
        with pytest.raises(Invalid, match="DATABASE_URL") as caught:
            Settings.load(env)
        assert f"sslmode={mode}" in str(caught.value)
        assert "verify-full" in caught.value.remedy
        assert SECRET not in str(caught.value)
    assert "DB_SSL_MODE" in str(caught.value)


def test_postgres_ssl_false_does_not_switch_tls_off_for_a_remote_server() -> None:
    with pytest.raises(Invalid, match="POSTGRES_SSL"):
        Settings.load({"POSTGRES_HOST": "10.0.0.5", "POSTGRES_DB": "x", "POSTGRES_SSL": "false"})
    url = Settings.load({"POSTGRES_HOST": "10.0.0.5", "POSTGRES_DB": "x", "POSTGRES_SSL": "true"}).database_url
    assert url is not None
    assert connect_args(url)["ssl"].check_hostname


def test_the_mode_in_the_url_wins_over_the_variable() -> None:
    url = Settings.load({"DATABASE_URL": f"{REMOTE}?sslmode=verify-full", "DB_SSL_MODE": "disable"}).database_url
    assert url is not None
    assert connect_args(url)["ssl"].check_hostname


def test_a_local_server_may_be_asked_for_any_mode() -> None:
    assert connect_args(f"{LOCAL}?sslmode=require")["ssl"] == "require"
    context = connect_args(f"{LOCAL}?sslmode=verify-ca")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_one_remote_host_among_several_is_enough_for_tls() -> None:
    with pytest.raises(Invalid):
        connect_args("postgresql://u@localhost,db.example.com/db?sslmode=disable")
    arguments = connect_args("postgresql://u@a.example:1,b.example/db?target_session_attrs=read-write")
    assert (arguments["host"], arguments["port"]) == (["a.example", "b.example"], [1, 5432])
    assert arguments["target_session_attrs"] == "read-write"


def test_a_certificate_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(Invalid, match="certificate") as caught:
        connect_args(f"{REMOTE}?sslrootcert=/nowhere/root.pem")
    assert SECRET not in str(caught.value)


def test_sockets_by_parameter_as_libpq_and_sqlalchemy_write_them() -> None:
    arguments = connect_args("postgresql+asyncpg://u:p@/db?host=/tmp/a%20b&port=6000")
    assert (arguments["host"], arguments["port"], arguments["ssl"]) == ("/tmp/a b", 6000, False)
    assert connect_args("postgresql:///db")["host"][-1] == "localhost"


def test_build_url_comes_back_whole() -> None:
    for host in ("localhost", "::1", "/tmp/ö b"):
        given = {"host": host, "port": 6543, "user": "ü:@/", "password": "%&?#/ ", "database": "d b"}
        assert connect_args(build_url(**given)) == {**given, "ssl": False}  # type: ignore[arg-type]


async def test_the_environment_of_libpq_does_not_move_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(**connect_args("postgresql://u:p@127.0.0.1:1/db"), timeout=2)
