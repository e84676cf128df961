"""Wallets: the on-chain addresses of a user."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from tallystick.domains.identity.users import User, UserStatus
from tallystick.entity import Entity
from tallystick.errors import Duplicate, Invalid
from tallystick.fields import Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Readable, Rules, Unique

_EVM_BYTES = 20


class Wallet(Entity):
    """An address on a chain that belongs to a user. Addresses are bytes: case and checksums cannot differ."""

    user: Ref[User]
    chain_id: int
    address: bytes
    is_primary: bool = False
    verified_at: datetime | None = None

    rules = Rules(
        Unique("chain_id", "address"),
        Unique("user", where="is_primary"),
        Check("address_length", "octet_length(address) between 20 and 64"),
        Check("chain_positive", "chain_id > 0"),
        retain="identity",
        readable={"address": Readable.BY_ID},
    )


class Wallets(Repository[Wallet]):
    """The users' wallets."""

    async def by_address(self, chain_id: int, address: Annotated[str | bytes, "hex or raw"]) -> Wallet | None:
        """The wallet at an address of a chain, given as bytes or as hex with or without 0x."""
        found = await self.find(Wallet.chain_id == chain_id, Wallet.address == parse_address(address), limit=1)
        return found[0] if found else None

    async def owner(self, chain_id: int, address: str | bytes) -> User | None:
        """The user whose wallet is at an address of a chain."""
        found = await self.by_address(chain_id, address)
        return None if found is None else await self.db.users.get(found.user.id)

    async def upsert_owner(self, chain_id: int, address: str | bytes) -> User:
        """The user whose wallet is at an address; a new active account with that wallet when there is none.

        Callers that race all get the one account. Raises ``Invalid`` for what is no address.
        """
        raw = parse_address(address)
        known = await self.owner(chain_id, raw)
        if known is not None:
            return known
        try:
            async with self.db.transaction():
                made = await self.db.users.add(User(status=UserStatus.ACTIVE))
                await self.add(Wallet(user=Ref(made.id), chain_id=chain_id, address=raw, is_primary=True))
        except Duplicate:
            # Somebody else put it in at this moment, and theirs stands.
            made = await self.db.users.get((await self.one(Wallet.chain_id == chain_id, Wallet.address == raw)).user.id)
        return made


def parse_address(address: str | bytes) -> bytes:
    """An EVM address as its 20 bytes. Raises ``Invalid`` for anything else."""
    raw: bytes | None = None
    if isinstance(address, bytes):
        raw = address
    elif isinstance(address, str):
        try:
            raw = bytes.fromhex(address.removeprefix("0x").removeprefix("0X"))
        except ValueError:
            raw = None
    if raw is None or len(raw) != _EVM_BYTES:
        raise Invalid("The address is not 20 bytes of hex.", field="address", remedy="Write 0x and 40 hex digits.")
    return raw
