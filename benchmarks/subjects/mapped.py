"""The mapped columns that the SQLAlchemy-based subjects share, with the settings that serve them best.

Server-made values come back by RETURNING (``eager_defaults``), so nothing is read again after a write; the version
column is SQLAlchemy's own optimistic lock, counted by the same trigger as everybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.subjects import Target
from benchmarks.table import SCHEMA, TWIN, Draft, PaymentStatus

_MADE = sa.FetchedValue()
STATUS = sa.Enum(
    PaymentStatus,
    native_enum=False,
    create_constraint=False,
    length=None,
    values_callable=lambda e: [m.value for m in e],
)


class Columns:
    __tablename__ = TWIN
    __table_args__ = {"schema": SCHEMA}

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    asset: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[PaymentStatus] = mapped_column(STATUS)
    reference: Mapped[str] = mapped_column(sa.Text)
    received_at: Mapped[datetime] = mapped_column(sa.TIMESTAMP(timezone=True))
    version: Mapped[int] = mapped_column(sa.BigInteger, server_default=_MADE, server_onupdate=_MADE)
    created_at: Mapped[datetime] = mapped_column(sa.TIMESTAMP(timezone=True), server_default=_MADE)
    created_by: Mapped[str] = mapped_column(sa.Text, server_default=_MADE)
    updated_at: Mapped[datetime] = mapped_column(
        sa.TIMESTAMP(timezone=True), server_default=_MADE, server_onupdate=_MADE
    )
    updated_by: Mapped[str] = mapped_column(sa.Text, server_default=_MADE, server_onupdate=_MADE)


def versioned(table: Any) -> dict[str, Any]:
    """Mapper arguments: the row's own version guards updates, and the server counts it."""
    return {"version_id_col": table.version, "version_id_generator": False, "eager_defaults": True}


def objects(model: type[Any], target: Target, drafts: Sequence[Draft]) -> list[Any]:
    return [
        model(
            tenant_id=target.tenant,
            id=draft.id,
            amount=draft.amount,
            asset=draft.asset,
            status=draft.status,
            reference=draft.reference,
            received_at=draft.received_at,
        )
        for draft in drafts
    ]
