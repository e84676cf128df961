"""proofs: a verifier enrolled with a key that was made or given, taken at its word, and dismissed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.proofs.support import Believer, circuit, received

from tallystick import Circuit, Tallystick, TallystickError, VerificationStatus
from tallystick.privacy import tenant_key
from tallystick.settings import Settings


async def judged(data_dir: Path, key: bytes, nullifier: int) -> VerificationStatus:
    """What becomes of a good proof that the verifier looked at."""
    settings = Settings.load({}, data_dir=data_dir)
    async with (
        Tallystick.open(settings=settings) as tally,
        tally.session("harbour", actor="test", permissions=["*"]) as db,
    ):
        found = await db.circuits.find(Circuit.name == "cli")
        proof = await received(db, found[0] if found else await circuit(db, "cli"), nullifier)
        return (await db.proofs.verify(proof, verifier=Believer("checker", key))).status


def test_enrolled_taken_at_its_word_and_dismissed(cli: Cli, data_dir: Path, fresh: Path) -> None:
    place = fresh / "verifier.key"
    assert cli("proofs", "enroll", "checker").code == 2
    assert cli("proofs", "enroll", "checker", "--key", str(place), "--new-key", str(place)).code == 2
    assert cli("proofs", "enroll", "checker", "--key", str(place)).code == 6, "no such file"
    said = cli("proofs", "enroll", "checker", "--new-key", str(place))
    assert said.code == 0, said.err
    assert str(place) in said.out
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.read_text().strip() not in said.out + said.err
    assert cli("proofs", "enroll", "checker", "--new-key", str(place)).code == 2, "a key is never replaced"
    assert cli("proofs", "enroll", "checker", "--key", str(place), "--json").document["enrolled"] == "checker"
    assert cli("proofs", "enroll", "No Name", "--key", str(place)).code == 2

    key = tenant_key.read(place)
    assert asyncio.run(judged(data_dir, key, 1)) is VerificationStatus.VERIFIED
    with pytest.raises(TallystickError):
        asyncio.run(judged(data_dir, bytes(range(1, 33)), 2))

    assert cli("proofs", "dismiss", "checker").code == 2, "nobody can be asked"
    assert cli("proofs", "dismiss", "checker", "--yes").code == 0
    assert cli("proofs", "dismiss", "checker", "--yes").code == 4
    with pytest.raises(TallystickError):
        asyncio.run(judged(data_dir, key, 3))
