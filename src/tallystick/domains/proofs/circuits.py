"""Circuits and verifying keys: what can be proved, and by which key a proof of it is checked."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.named import id_of
from tallystick.domains.proofs.signals import BN254, Signal, check_signals, is_prime
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Length, Once, Ref
from tallystick.query import desc, missing
from tallystick.rules import Check, Guard, Readable, Rules, Unique, kept

MANAGE = "proofs.manage"
_LONGEST_KEY = 1_000_000


class ProofType(StrEnum):
    """What a circuit proves of a person."""

    IDENTITY = "identity"
    AGE = "age"
    INCOME = "income"
    REPUTATION = "reputation"
    CREDIT_SCORE = "credit_score"
    MEMBERSHIP = "membership"
    OTHER = "other"


class ProofProtocol(StrEnum):
    """The proof system of a verifying key."""

    GROTH16 = "groth16"
    PLONK = "plonk"
    FFLONK = "fflonk"
    STARK = "stark"
    BULLETPROOFS = "bulletproofs"
    HALO2 = "halo2"


class Circuit(Entity):
    """A statement that can be proved, over a prime field, with public signals in a fixed order.

    ``modulus`` is the field's prime as 32 bytes, most significant first: every signal and nullifier is below it.
    """

    name: Annotated[str, Length(100, min=1), Once()]
    type: Annotated[ProofType, Once()]
    modulus: Annotated[bytes, Once()] = BN254.to_bytes(32, "big")
    signals: Annotated[list[Signal], Once()] = msgspec.field(default_factory=list)

    rules = Rules(
        Unique("name"),
        Unique("id", "modulus"),
        Check("modulus", "octet_length(modulus) = 32"),
        kept(),
        table="zk_circuit",
        retain="proofs",
        readable={"name": Readable.CODE, "modulus": Readable.DIGEST, "signals": Readable.TERMS},
    )

    @property
    def prime(self) -> int:
        """The modulus as a number."""
        return int.from_bytes(self.modulus, "big")


class VerifyingKey(Entity):
    """The key that proofs of one version of a circuit are checked with, found by the SHA-256 of its document.

    A retired key takes no new requests; verdicts that were reached with it stand. ``ceremony`` says where its setup
    was done.
    """

    circuit: Annotated[Ref[Circuit], Once()]
    circuit_version: Annotated[int, Once()] = 1
    protocol: Annotated[ProofProtocol, Once()]
    document: Annotated[bytes, Once()]
    sha256: Annotated[bytes, Once()]
    ceremony: Annotated[str, Length(500), Once()] | None = None
    retired_at: datetime | None = None

    rules = Rules(
        Unique("sha256"),
        Unique("circuit", "circuit_version", "protocol"),
        Unique("id", "circuit"),
        Check("sha256", "sha256 = pg_catalog.sha256(document)"),
        Check("document", "octet_length(document) between 1 and 1000000"),
        Check("circuit_version", "circuit_version >= 1"),
        Guard(
            "tally_retired",
            "BEFORE UPDATE",
            "tally.refuse_change('zk_verifying_key')",
            when='OLD."retired_at" IS NOT NULL',
        ),
        kept(),
        table="zk_verifying_key",
        retain="proofs",
        readable={"document": Readable.TERMS, "sha256": Readable.DIGEST, "ceremony": Readable.NOTE},
    )


class VerifyingKeys(Guarded[VerifyingKey]):
    """The keys by which proofs are checked."""

    permission = MANAGE
    instead = "db.circuits.add_key() and retire()"


class Circuits(Guarded[Circuit]):
    """What can be proved. Registering circuits and keys takes the permission "proofs.manage"."""

    permission = MANAGE
    instead = "db.circuits.register()"

    async def register(
        self, name: str, type: ProofType, *, signals: list[Signal] | None = None, modulus: int = BN254
    ) -> Circuit:
        """Register a circuit with its public signals, in order. Raises ``Duplicate``, ``RoleMissing``, ``Invalid``."""
        await self.db.require(MANAGE)
        if modulus.__class__ is not int or not 2 < modulus < 2**256 or not is_prime(modulus):
            raise Invalid(
                "A modulus is a prime below 2^256.",
                field="modulus",
                entity="Circuit",
                remedy="Give the order of the curve's scalar field; left out, it is that of BN254.",
            )
        fields = check_signals([] if signals is None else signals)
        return await put(self, Circuit(name=name, type=type, modulus=modulus.to_bytes(32, "big"), signals=fields))

    async def add_key(
        self,
        circuit: Circuit | UUID,
        document: bytes,
        protocol: ProofProtocol,
        *,
        version: int = 1,
        ceremony: str | None = None,
    ) -> VerifyingKey:
        """Register a verifying key; its bytes are kept as they are, and hashed. Raises as ``register``."""
        await self.db.require(MANAGE)
        if document.__class__ is not bytes or not 1 <= len(document) <= _LONGEST_KEY:
            raise Invalid("A verifying key is 1 to 1,000,000 bytes.", field="document", entity="VerifyingKey")
        made = VerifyingKey(
            circuit=Ref(id_of(circuit, Circuit, "circuit")),
            circuit_version=version,
            protocol=protocol,
            document=document,
            sha256=sha256(document).digest(),
            ceremony=ceremony,
        )
        return await put(self.db[VerifyingKey], made)

    async def key(self, hash: bytes) -> VerifyingKey | None:
        """The verifying key with this SHA-256."""
        found = await self.db[VerifyingKey].find(VerifyingKey.sha256 == hash, limit=1)
        return found[0] if found else None

    async def newest_key(self, circuit: Circuit | UUID) -> VerifyingKey | None:
        """The key of a circuit's newest version that is not retired."""
        where: Any = VerifyingKey.circuit == Ref(id_of(circuit, Circuit, "circuit"))
        found = await self.db[VerifyingKey].find(
            where, missing(VerifyingKey.retired_at), order=desc(VerifyingKey.circuit_version), limit=1
        )
        return found[0] if found else None

    async def retire(self, key: VerifyingKey) -> VerifyingKey:
        """Take no more requests for a key, for good; what was verified with it stays verified."""
        await self.db.require(MANAGE)
        if not isinstance(key, VerifyingKey):
            raise Invalid("A key is what circuits.key() and newest_key() answer.", field="key", entity="VerifyingKey")
        if key.retired_at is not None:
            return key
        return await alter(self.db[VerifyingKey], key, retired_at=self.db.now())
