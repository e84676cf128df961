"""Whether a revision is safe to run on a database that is in use: judged on its SQL before any of it runs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script

from tallystick.errors import MigrationUnsafe, TallystickError
from tallystick.schema.ddl import Engine
from tallystick.schema.operations import ENGINE, ROLES
from tallystick.schema.roles import Roles


@dataclass(frozen=True, slots=True)
class Hazard:
    """A statement that should not run as it is, and what to write instead."""

    rule: str
    problem: str
    instead: str


def sql_of(operations: Iterable[MigrateOperation], roles: Roles, engine: Engine = "plain") -> str:
    """The operations as SQL."""
    context, buffer = _offline(roles, engine)
    with Operations.context(context) as proxy:
        for operation in operations:
            proxy.invoke(operation)
    return buffer.getvalue()


def render(script: Script, roles: Roles, engine: Engine = "plain") -> str:
    """The upgrade of a revision as SQL."""
    context, buffer = _offline(roles, engine)
    try:
        with Operations.context(context):
            context.impl.emit_begin()
            script.module.upgrade()
            context.impl.emit_commit()
    except TallystickError:
        raise
    except Exception as error:  # whatever a revision's own code does wrong without a database
        raise MigrationUnsafe(
            f"Revision {script.revision} cannot be judged without a connection ({type(error).__name__}).",
            remedy="Put what reads or changes rows into ForEachTenant(name, work) or Backfill(table, change, rows).",
        ) from error
    return buffer.getvalue()


def _offline(roles: Roles, engine: Engine) -> tuple[MigrationContext, io.StringIO]:
    buffer = io.StringIO()
    settings = {"as_sql": True, "output_buffer": buffer, ROLES: roles, ENGINE: engine}
    return MigrationContext.configure(dialect_name="postgresql", opts=settings), buffer


async def check(scripts: Sequence[Script], roles: Roles, engine: Engine) -> tuple[str, ...]:
    """Judge the revisions that are about to run. Raises ``MigrationUnsafe`` with the corrected migration.

    A revision may name rules in ``accepted`` with the reason for each; those are let through, and nothing else is.
    Answers notes: what was accepted, and whether squawk looked as well.
    """
    from tallystick.schema import squawk

    notes: list[str] = []
    found: list[tuple[Script, Hazard]] = []
    for script in scripts:
        sql = render(script, roles, engine)
        accepted = dict(getattr(script.module, "accepted", {}))
        hazards = [*judge(sql), *await squawk.judge(sql)]
        for rule, reason in accepted.items():
            if any(h.rule == rule for h in hazards) and str(reason).strip():
                notes.append(f"{script.revision} breaks {rule}: {reason}")
        found += [(script, h) for h in hazards if not str(accepted.get(h.rule, "")).strip()]
    if found:
        raise MigrationUnsafe(
            "\n".join(f"{s.revision}: {h.problem} [{h.rule}]" for s, h in found),
            remedy="Write instead:\n"
            + "\n".join(dict.fromkeys(h.instead for _, h in found))
            + f'\nOr, where it is safe, say why in the revision: accepted = {{"{found[0][1].rule}": "the reason"}}.',
        )
    if scripts and not squawk.binary():
        notes.append("squawk is not installed; only the library's own rules were applied (pip install squawk-cli).")
    return tuple(notes)


def judge(sql: str) -> list[Hazard]:
    """The library's own rules, applied to rendered SQL."""
    from tallystick.schema.hazards import hazards

    return hazards(statements(sql))


_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|(?P<dollar>\$\w*\$).*?(?P=dollar)|E?'(?:[^'\\]|''|\\.)*'|\"(?:[^\"]|\"\")*\"|;|[^-/$'\";E]+|.",
    re.DOTALL,
)


def statements(sql: str) -> list[str]:
    """The statements of a script, without comments; quoted texts and bodies stay whole."""
    found, current = [], ""
    for token in _TOKEN.finditer(sql):
        piece = token[0]
        if piece == ";":
            found.append(current.strip())
            current = ""
        elif not piece.startswith(("--", "/*")):
            current += piece
    return [s for s in (*found, current.strip()) if s]
