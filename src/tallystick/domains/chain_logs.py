"""Where on a chain something happened."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.errors import Invalid

_HASH = 32


class ChainLog(msgspec.Struct, frozen=True, kw_only=True):
    """Where on a chain something happened: one log of one transaction, which may hold several.

    Raises ``Invalid`` for a chain that is not above zero, a hash that is not 32 bytes, an index below zero.
    """

    chain_id: int
    tx_hash: bytes
    log_index: int

    def __post_init__(self) -> None:
        numbers = all(n.__class__ is int and 0 <= n < 2**63 for n in (self.chain_id, self.log_index))
        if not numbers or self.chain_id == 0 or self.tx_hash.__class__ is not bytes or len(self.tx_hash) != _HASH:
            raise Invalid(
                "A chain log is a chain's id, the 32 bytes of a transaction's hash and an index from 0.",
                field="log",
                remedy="Write ChainLog(chain_id=8453, tx_hash=bytes.fromhex(...), log_index=0).",
            )


def log_columns(log: object) -> dict[str, Any]:
    """The columns of a log by name, none for None. Raises ``Invalid`` for what is not a ``ChainLog``."""
    if log is None:
        return {}
    if not isinstance(log, ChainLog):
        raise Invalid("A log is given as ChainLog(...).", field="log", remedy="Write ChainLog(chain_id=8453, ...).")
    return msgspec.structs.asdict(log)
