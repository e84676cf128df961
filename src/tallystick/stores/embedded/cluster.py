"""One PostgreSQL cluster on disk, and the server process on it: made, started, watched and stopped.

Callers hold the directory's lock. Nothing here connects; whether a server really answers is asked in ``server.py``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from tallystick.errors import StorageFull, Unavailable, Unsupported
from tallystick.stores.embedded.binaries import Binaries
from tallystick.stores.embedded.files import make_directory, open_file, read_file, storage_errors, tail, write_file
from tallystick.stores.embedded.home import Home
from tallystick.stores.embedded.process import is_postmaster, workers_of

_INITDB_TIMEOUT = 300.0
_STEP = 0.005
_AGAIN = 0.25
_ALMOST_FULL = 1024 * 1024
_LOG_LIMIT = 16 * 1024 * 1024
# No process can have this id (Linux stops at 2^22), so PostgreSQL takes the lock file that holds it for a stale one.
_NOBODY = 2_147_483_647
_BUILTIN_LOCALE_SINCE = 17


class Cluster:
    """The cluster in ``home``, run with ``binaries``."""

    def __init__(self, home: Home, binaries: Binaries, max_connections: int) -> None:
        self._home = home
        self._binaries = binaries
        self._max_connections = max_connections
        self._launched: int | None = None

    @property
    def exists(self) -> bool:
        """True once the cluster was made whole; a half-made one never gets its final name."""
        return self._home.cluster.exists()

    def check_version(self) -> None:
        """Raise ``Unsupported`` when the cluster was made by another major version than ours."""
        with storage_errors(self._home.root):
            try:
                found = read_file(self._home.cluster / "PG_VERSION").strip().decode("ascii", "replace")
            except FileNotFoundError:
                raise Unavailable(
                    f"The cluster in {self._home.root} is damaged: it has no PG_VERSION.",
                    remedy="Restore the directory from a backup, or start in another directory.",
                ) from None
        if found != str(self._binaries.major):
            raise Unsupported(
                f"The cluster in {self._home.root} is of PostgreSQL {found}, and the programs here are of "
                f"{self._binaries.major}.",
                remedy="Move the data with pg_dump and pg_restore of both versions, or name another directory.",
            )

    def system_identifier(self) -> int:
        """The number that tells this cluster from every other; the first eight bytes of its control file."""
        with storage_errors(self._home.root):
            return int(struct.unpack("=Q", read_file(self._home.cluster / "global" / "pg_control")[:8])[0])

    def create(self, password: str, *, durable: bool) -> None:
        """Make the cluster beside its final name and rename it when it is whole.

        ``durable`` writes it through to the disk first; a server that is thrown away has no use for that.
        """
        home = self._home
        draft = home.root / f"cluster.{secrets.token_hex(4)}"
        password_file = home.root / f"passwords.json.{secrets.token_hex(4)}"
        with storage_errors(home.root):
            for left_over in home.root.glob("cluster.*"):
                shutil.rmtree(left_over)
            try:
                make_directory(draft, 0o700, owner=home.account.ids)
                write_file(password_file, password.encode(), owner=home.account.ids)
                self._initdb(draft, password_file, durable=durable)
                descriptor = os.open(draft / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
                with os.fdopen(descriptor, "wb") as file:
                    # Relative to this file, so that the directory can be moved.
                    file.write(b"\ninclude '../tallystick.conf'\n")
                draft.rename(home.cluster)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            finally:
                password_file.unlink(missing_ok=True)

    def _initdb(self, directory: Path, password_file: Path, *, durable: bool) -> None:
        # One order of text on every system: by code point, with full Unicode case mapping where the version has it.
        provider = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [
            self._binaries.program("initdb"),
            f"--pgdata={directory}",
            "--username=postgres",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            *(provider if self._binaries.major >= _BUILTIN_LOCALE_SINCE else []),
            *([] if durable else ["--no-sync"]),
        ]
        log = self._home.root / "initdb.log"
        descriptor = open_file(log, os.O_WRONLY | os.O_TRUNC)
        try:
            done = subprocess.run(  # noqa: S603  our own programs, no shell text from outside
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                check=False,
                timeout=_INITDB_TIMEOUT,
                cwd="/",
                env=self._environment(),
                **self._home.account.process_arguments(),
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                "Making the embedded server's cluster took too long.", remedy="Try again on a faster disk."
            ) from error
        except OSError as error:
            raise _cannot_run(error) from error
        finally:
            os.close(descriptor)
        if done.returncode != 0:
            raise self._failure("The embedded server's cluster could not be made", tail(log))
        log.unlink()

    def configure(self, port: int) -> None:
        """Write our part of the configuration; the rest stays PostgreSQL's default or the user's own."""
        directories = "../socket" if self._home.socket_usable else ""
        lines = [
            "# Written at every start. Settings of your own belong in cluster/postgresql.auto.conf (ALTER SYSTEM).",
            "listen_addresses = '127.0.0.1'",
            f"port = {port}",
            f"unix_socket_directories = '{directories}'",
            "unix_socket_permissions = 0700",
            f"max_connections = {self._max_connections}",
            "shared_buffers = 128MB",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            "lc_messages = 'C'",
            "logging_collector = off",
            "log_destination = 'stderr'",
            "log_line_prefix = '%m [%p] '",
            "# Errors of statements, their text and their details hold people's data; the client gets them.",
            "log_min_messages = log",
            "log_min_error_statement = panic",
            "log_error_verbosity = terse",
            "log_statement = 'none'",
        ]
        with storage_errors(self._home.root):
            content = ("\n".join(lines) + "\n").encode()
            if not self._home.config.exists() or read_file(self._home.config) != content:
                write_file(self._home.config, content, mode=0o644)

    def port(self) -> int | None:
        """The port of the last start, or None before the first."""
        with storage_errors(self._home.root):
            if not self._home.config.exists():
                return None
            content = read_file(self._home.config)
        for line in content.splitlines():
            if line.startswith(b"port = "):
                return int(line.removeprefix(b"port = "))
        return None

    def postmaster(self) -> int | None:
        """The id of the running server process, or None when it is gone, a zombie or another program by now."""
        for process in (self._recorded_postmaster(), self._launched):
            if process is not None and is_postmaster(process, self._home.cluster):
                return process
        return None

    def _recorded_postmaster(self) -> int | None:
        try:
            lines = read_file(self._home.cluster / "postmaster.pid").splitlines()
            return abs(int(lines[0]))
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def launch(self) -> int:
        """Start the server process and return its id; it is nobody's child and no terminal's."""
        self._disown_stale_lock()
        home = self._home
        server = [self._binaries.program("postgres"), "-D", str(home.cluster)]
        with storage_errors(home.root):
            if home.log.exists() and home.log.stat().st_size > _LOG_LIMIT:
                home.log.replace(home.log.with_name("server.log.1"))
            log = open_file(home.log, os.O_WRONLY | os.O_APPEND)
        try:
            # The shell leaves at once, so that init adopts the server and this process can never hold its zombie.
            done = subprocess.run(  # noqa: S603  our own programs, no shell text from outside
                ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *server],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                check=True,
                cwd="/",
                env=self._environment(),
                **home.account.process_arguments(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise _cannot_run(error) from error
        finally:
            os.close(log)
        self._launched = int(done.stdout)
        return self._launched

    def is_running(self, process: int) -> bool:
        """True while that process is this cluster's server."""
        return is_postmaster(process, self._home.cluster)

    def _disown_stale_lock(self) -> None:
        """Let PostgreSQL see that lock files are stale although their process id is taken, by a zombie or a stranger.

        In the data directory only the id is replaced. Removing the file would also remove the shared-memory key by
        which the server finds out whether workers of the dead server still write to the files.
        """
        file = self._home.cluster / "postmaster.pid"
        with storage_errors(self._home.root):
            # The directory is private and no server of ours lives, so what is left of sockets belongs to nobody.
            for left_over in self._home.socket.glob(".s.PGSQL.*"):
                left_over.unlink(missing_ok=True)
            recorded = self._recorded_postmaster()
            if recorded is None or recorded == _NOBODY or not _exists(recorded):
                return
            lines = read_file(file).split(b"\n")
            lines[0] = str(_NOBODY).encode()
            write_file(file, b"\n".join(lines), owner=self._home.account.ids)

    def stop(self, *, timeout: float, at_once: bool = False) -> None:
        """Stop the server and wait until its process is gone.

        ``at_once`` skips the checkpoint, which is for data that is thrown away. Raises ``Unavailable`` after
        ``timeout`` seconds.
        """
        process = self.postmaster()
        if process is None:
            return
        ask = time.monotonic()
        deadline = ask + timeout
        while self.is_running(process):
            now = time.monotonic()
            if now > deadline:
                raise Unavailable(
                    f"The embedded server did not stop within {timeout:g} seconds.",
                    remedy="Look at server.log; stop(force=True) ends it without waiting for its clients.",
                )
            if now >= ask:
                # More than once: what a shell starts behind itself ignores both signals until it knows better.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGQUIT if at_once else signal.SIGINT)
                ask = now + _AGAIN
            time.sleep(_STEP)

    def log_position(self) -> int:
        """Where the log ends now."""
        return self._home.log.stat().st_size if self._home.log.exists() else 0

    def log_since(self, position: int) -> str:
        """What the server wrote since then."""
        grown = self.log_position() - position
        return tail(self._home.log, size=min(grown, 20_000)) if grown > 0 else ""

    def start_failure(self, log: str) -> Unavailable:
        """The error for a server that ended before it answered."""
        return self._failure("The embedded server could not start", log)

    def end_orphans(self) -> None:
        """Ask workers that outlived their killed server to end; they still have its shared memory."""
        for process in workers_of(self._home.cluster):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGTERM)

    def _failure(self, problem: str, log: str) -> Unavailable:
        # On a full disk the log may be empty too.
        if "No space left on device" in log or shutil.disk_usage(self._home.root).free < _ALMOST_FULL:
            return StorageFull(f"{problem}: the disk is full.", remedy="Free space there, or name another directory.")
        # Our own questions to a server that is still starting leave lines too.
        marks = ("FATAL", "PANIC", "error:")
        lines = [line for line in log.splitlines() if "the database system is" not in line]
        reasons = [line for line in lines if any(mark in line for mark in marks)]
        reason = reasons[-1].rpartition("  ")[2] if reasons else "it left no message"
        return Unavailable(f"{problem}: {reason.strip()}.", remedy="server.log in the data directory says more.")

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self._binaries.directory}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def free_port(preferred: int | None = None) -> int:
    """A port of the loopback address that nobody listens on now, ``preferred`` if that is still free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("There is no free port on the loopback address.", remedy="Close some programs and try again.")


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _cannot_run(error: Exception) -> Unavailable:
    return Unavailable(
        f"PostgreSQL's programs cannot be run here ({type(error).__name__}).",
        remedy="Check that the platform is supported and that this account may start processes as the server's user.",
    )
