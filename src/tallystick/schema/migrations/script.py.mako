"""${message}

Revision ${up_revision}, after ${down_revision if down_revision else "nothing: the first of its branch"}.
"""

from __future__ import annotations

from alembic import op

${imports if imports else ""}
revision = ${text(up_revision)}
down_revision = ${text(down_revision)}
branch_labels = ${text(branch_labels)}
depends_on = ${text(depends_on)}
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = ${accepted}

${tables}\

def upgrade() -> None:
    """${message[:1].upper()}${message[1:]}."""
    ${upgrades}


def downgrade() -> None:
    """Take it back."""
    ${downgrades}
