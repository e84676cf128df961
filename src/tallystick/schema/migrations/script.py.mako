"""${message}

Revision ${up_revision}, after ${down_revision if down_revision else "nothing"}${" of its branch" if branch_labels else ""}. Written ${create_date.date()}.
"""

from __future__ import annotations

from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
