"""What the operating system says about a process id: whether it is the server of one cluster, and alive."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

_PROC = Path("/proc")
_DEAD = (b"Z", b"X")
_LOOKS = 40
_LOOK = 0.005


def is_postmaster(process: int, cluster: Path) -> bool:
    """True when that process lives and is the postmaster of ``cluster``.

    An id alone proves nothing: a killed server may stay as a zombie, and its id may have gone to another program.
    The command line is readable for every account, also in containers where root may not trace other users.
    """
    if (_PROC / "self" / "stat").exists():
        return _by_proc(process, cluster)
    return _by_ps(process, cluster)


def workers_of(cluster: Path) -> list[int]:
    """Server processes that work inside the directory of ``cluster``, as far as this account can see."""
    if not (_PROC / "self" / "stat").exists():
        return []
    found = []
    for entry in _PROC.iterdir():
        with contextlib.suppress(OSError):
            program = (entry / "comm").read_bytes().strip() if entry.name.isdigit() else b""
            if program == b"postgres" and (entry / "cwd").readlink() == cluster:
                found.append(int(entry.name))
    return found


def _by_proc(process: int, cluster: Path) -> bool:
    for _ in range(_LOOKS):
        try:
            state = (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[0]
            command = (_PROC / str(process) / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return False
        if state in _DEAD:
            return False
        if command:
            # Counted from the end: between fork and exec it is still the shell's command line, which ends the same.
            return command.split(b"\0")[-3:] == [b"-D", os.fsencode(cluster), b""]
        # In the middle of exec there is none for a moment, which on a busy machine lasts.
        time.sleep(_LOOK)
    return False


def _by_ps(process: int, cluster: Path) -> bool:
    answer = subprocess.run(  # noqa: S603  our own programs, no shell text from outside
        ["/bin/ps", "-ww", "-o", "stat=,command=", "-p", str(process)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    ).stdout
    state, _, command = answer.strip().partition(b" ")
    return bool(state) and state[:1] != b"Z" and command.endswith(b" -D " + os.fsencode(cluster))
