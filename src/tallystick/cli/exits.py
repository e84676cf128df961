"""What the exit codes mean; they are stable, so that a script can rely on them.

====  ==========================================================================================================
   0  done, and nothing is wrong
   1  done, and something is wrong: lint findings, an unhealthy database, a revision pending, a wall that broke
   2  the command was called wrongly, or a value, file or declaration is invalid
   3  denied, or the database is not provisioned or not migrated
   4  not found
   5  a conflict with what is stored: a duplicate, a stale version, a state machine, a quota, a floor
   6  the server, a file or a service cannot be reached, or is full; trying again may help
   7  a migration would block or lose something
   8  stored bytes were tampered with or erased
   9  the engine, store or setting cannot do this
  70  a bug: an error that is not one of ours
 130  interrupted by Ctrl-C (SIGINT)
 143  ended by SIGTERM
====  ==========================================================================================================
"""

from __future__ import annotations

from tallystick import errors as e

OK = 0
FINDINGS = 1
USAGE = 2
BUG = 70
INTERRUPTED = 130
TERMINATED = 143

_CODES: tuple[tuple[type[e.TallystickError], int], ...] = (
    (e.Invalid, USAGE),
    (e.Denied, 3),
    (e.NotProvisioned, 3),
    (e.NotMigrated, 3),
    (e.NotFound, 4),
    (e.Conflict, 5),
    (e.InvalidTransition, 5),
    (e.InsufficientFunds, 5),
    (e.QuotaExceeded, 5),
    (e.Unavailable, 6),
    (e.CommitUnknown, 6),
    (e.MigrationUnsafe, 7),
    (e.Tampered, 8),
    (e.Erased, 8),
    (e.Unsupported, 9),
)


def code_of(problem: e.TallystickError) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(problem, kind)), BUG)
