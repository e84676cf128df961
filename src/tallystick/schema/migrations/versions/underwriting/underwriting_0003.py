"""reasons of decisions and adverse action notices

Revision underwriting_0003, after underwriting_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.online_operations import Validate
from tallystick.schema.operations import Undo

revision = "underwriting_0003"
down_revision = "underwriting_0002"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}


def upgrade() -> None:
    """Reasons of decisions and adverse action notices."""
    op.invoke(Validate("decision", "ck_decision_explained"))
    op.invoke(Validate("decision", "ck_decision_other_reason"))
    op.invoke(Validate("decision", "ck_decision_other_reason_length"))
    op.invoke(Validate("decision", "ck_decision_reasons"))
    op.invoke(Validate("decision", "ck_decision_reasons_against"))
    op.invoke(Validate("decision", "ck_decision_reasons_of_decline"))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(Validate("decision", "ck_decision_reasons_of_decline")))
    op.invoke(Undo(Validate("decision", "ck_decision_reasons_against")))
    op.invoke(Undo(Validate("decision", "ck_decision_reasons")))
    op.invoke(Undo(Validate("decision", "ck_decision_other_reason_length")))
    op.invoke(Undo(Validate("decision", "ck_decision_other_reason")))
    op.invoke(Undo(Validate("decision", "ck_decision_explained")))
