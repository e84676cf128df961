"""What Orchard adds when it starts to lend: a grower is a borrower, and a visit happens at one of its branches."""

import uuid

from sqlalchemy import ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tallystick import Entity, Index, Ref, Rules, User

from .base import Base


class Borrower(Base):
    """Theirs, pointing at ours: the pair (tenant_id, user_id) is the key of every table of Tallystick."""

    __tablename__ = "borrower"
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"), primary_key=True)
    tenant_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], [User.table.c.tenant_id, User.table.c.id]),
        UniqueConstraint("tenant_id", "user_id"),
    )


class OrchardVisit(Entity):
    """Ours, pointing at theirs: a plain number here, and a foreign key that a revision of Orchard's adds."""

    borrower: Ref[User]
    branch_id: int

    rules = Rules(Index("branch_id", query="visits at a branch"), retain="lending")
