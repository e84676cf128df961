"""What an extension seals, and what tenants define as personal: nowhere in the clear, masked, exported and erased."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.adoption.branches import ENTITIES, BranchUser, House, application
from tests.attacks.test_secrets import everything
from tests.entities import ALL
from tests.schema.support import make_database

from tallystick import CustomFieldType, Session, UserStatus, key, secret
from tallystick.domains.catalog import DOMAINS
from tallystick.domains.identity.erasures import ErasureGround
from tallystick.domains.rights.masking import mask_into
from tallystick.errors import Duplicate, Erased, Invalid, TallystickError
from tallystick.privacy import rotation
from tallystick.privacy.keys import LocalKeys
from tallystick.privacy.redact import RedactingFilter
from tallystick.schema.connect import acting_as_owner
from tallystick.schema.migrate import migrate
from tallystick.settings import connect_args
from tallystick.testing import KitServer

T = CustomFieldType
IBAN, NICK, HOBBY = "GB33BUKB20201555555739", "Zq739104Xk", "Falknerei739104"
CANARIES = (IBAN, NICK, HOBBY)


def forms(text: str) -> Iterable[bytes]:
    raw = text.encode()
    return raw, raw.lower(), raw.hex().encode(), text.encode("utf-16-le")


def found(content: bytes) -> list[str]:
    return [c for c in CANARIES if any(form in content for form in forms(c))]


async def dumped(url: str) -> bytes:
    """Every row of every table of ours."""
    conn, out = await asyncpg.connect(**connect_args(url)), io.BytesIO()
    try:
        for row in await conn.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname LIKE 'tally%' AND c.relkind IN ('r', 'p')"
        ):
            await conn.copy_from_query(f"SELECT * FROM {row['name']}", output=out)
        return out.getvalue()
    finally:
        await conn.close()


@pytest.fixture
async def desk(house: House, request: pytest.FixtureRequest) -> Any:
    slug = f"p{abs(hash(request.node.nodeid)) % 10**12}"
    await house.tally.tenants.create(slug, name="A tenant")
    async with house.tally.session(slug, actor="admin", permissions=("*",), reason="a test") as made:
        yield made


async def person(desk: Session) -> BranchUser:
    await desk.custom_fields.define(BranchUser, "hobby", T.TEXT, personal=True)
    await desk.custom_fields.define(BranchUser, "born", T.DATE, personal=True)
    await desk.custom_fields.define(BranchUser, "rank", T.CHOICE, choices=["gold", "silver"], personal=True)
    await desk.custom_fields.define(BranchUser, "score", T.INTEGER, minimum=1, maximum=3, personal=True)
    await desk.custom_fields.define(BranchUser, "debts", T.DECIMAL, minimum=-2, maximum=0, personal=True)
    await desk.custom_fields.define(BranchUser, "member", T.BOOLEAN, personal=True)
    await desk.custom_fields.define(BranchUser, "region", T.CHOICE, choices=["north", "south"])
    return await desk[BranchUser].add(
        BranchUser(
            email="ada@example.org",
            status=UserStatus.ACTIVE,
            iban=secret(IBAN),
            nickname=NICK,
            custom={"region": "north"},
            custom_personal={
                "hobby": HOBBY,
                "born": "1913-07-29",
                "rank": "gold",
                "score": 2,
                "debts": "-1E0",
                "member": True,
            },
        )
    )


async def test_it_is_nowhere_but_under_its_key(house: House, desk: Session, caplog: pytest.LogCaptureFixture):
    users, told = desk[BranchUser], []
    made = await person(desk)
    log, out = logging.getLogger("branches"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RedactingFilter(house.tally.entities))
    handler.setFormatter(logging.Formatter("%(message)s %(seen)s", defaults={"seen": ""}))
    log.addHandler(handler)

    async def tried(work: Any) -> None:
        with pytest.raises(TallystickError) as caught:
            await work
        told.append(everything(caught.value))

    try:
        log.warning("made %s", made)
        log.warning("made %s", {"iban": IBAN, "nickname": NICK, "custom_personal": {"hobby": HOBBY}})
        log.warning("made", extra={"seen": {"nickname": NICK, "custom_personal": {"hobby": HOBBY}}})
    finally:
        log.removeHandler(handler)
    await tried(users.add(BranchUser(iban=secret(IBAN), nickname=NICK)))
    await tried(users.add(BranchUser(nickname=NICK, tier=9)))
    await tried(users.update(made, custom_personal={"hobby": [HOBBY]}))
    await tried(users.update(made, custom_personal={HOBBY: "x"}))
    await tried(users.update(made, custom_personal={"born": HOBBY}))
    await tried(users.update(made, custom={"hobby": HOBBY}))
    await tried(users.update(made, custom={"region": HOBBY}))
    await tried(users.find(BranchUser.tier == NICK))
    assert [m.id for m in await users.find(BranchUser.iban == IBAN)] == [made.id]
    assert await users.reveal(made.id, BranchUser.iban, reason="a test") == IBAN
    made = await users.update(made, nickname=f"{NICK} 2")
    told += [repr(made), str(made), "".join(e.body for e in (await desk.audit.entries(limit=200)).items)]
    assert found("\n".join(told).encode()) == []
    assert found(out.getvalue().encode()) == []
    assert found(await dumped(house.database.superuser)) == []


async def test_a_copy_has_made_up_values_of_the_same_form(
    house: House, desk: Session, tally_server: KitServer, tmp_path: Path
):
    made = await person(desk)
    database = await make_database(tally_server, await tally_server.template(None, ALL))
    await migrate(
        database.admin, domains=DOMAINS, entities=ENTITIES, roles=database.roles, version_locations=[house.folder]
    )
    keys = LocalKeys(os.urandom(32), folder=tmp_path / "copy")
    conn = await asyncpg.connect(**connect_args(database.admin))
    try:
        async with acting_as_owner(conn, database.roles):
            await mask_into(desk, conn, keys, slug="copy")
    finally:
        await conn.close()
    assert found(await dumped(database.superuser)) == []
    async with (
        application(database, keys, ENTITIES, house.folder) as tally,
        tally.session("copy", actor="t", permissions=("*",), reason="a test") as db,
    ):
        users = db[BranchUser]
        copy = await users.get(made.id)
        assert copy.nickname is not None
        assert (len(copy.nickname), copy.nickname[0].isupper()) == (len(NICK), True)
        iban = await users.reveal(made.id, BranchUser.iban, reason="a test")
        assert (len(iban), iban[:2].isalpha(), iban[2:4].isdigit()) == (22, True, True)
        assert str(copy.iban).endswith(iban[-4:])
        assert await users.find(BranchUser.iban == iban) == [copy]
        assert copy.custom == {"region": "north"}
        assert await users.find(key(BranchUser.custom, "region") == "north") == [copy]
        assert copy.custom_personal is not None
        assert len(copy.custom_personal["hobby"]) == len(HOBBY)
        # What was copied is still what the tenant defined, or nobody could write the document again.
        again = await users.update(copy, custom_personal=copy.custom_personal | {"hobby": "chess"})
        assert again.custom_personal is not None
        assert again.custom_personal["born"] != "1913-07-29"


async def test_it_is_in_the_export_and_gone_when_the_person_is_erased(house: House, desk: Session, tmp_path: Path):
    users, made = desk[BranchUser], await person(desk)
    signer = Ed25519PrivateKey.generate()
    await desk.privacy.export(made.id, tmp_path / "before", reason="asked", key=signer)
    text = b"".join(p.read_bytes() for p in (tmp_path / "before").rglob("*") if p.is_file())
    assert found(text) == [IBAN, NICK, HOBBY]
    assert b'"region"' in text
    for column in ("users.iban", "branchuser.nickname"):
        (done,) = await rotation.rotate_index(desk, column)
        assert (done.generation, done.rows) == (2, 1)
    assert [m.id for m in await users.find(BranchUser.iban == IBAN, BranchUser.nickname == NICK.lower())] == [made.id]
    await desk.privacy.erase(await desk.privacy.request_erasure(made, ground=ErasureGround.CONSENT_WITHDRAWN))
    gone = await users.get(made.id)
    assert (gone.nickname, gone.custom_personal, gone.status) == (None, None, UserStatus.ERASED)
    assert gone.custom == {"region": "north"}
    with pytest.raises(Erased):
        await users.reveal(made.id, BranchUser.iban, reason="a test")
    assert await users.find(BranchUser.iban == IBAN) == []
    for version in await users.history(made.id):
        assert found(repr(version).encode()) == []
        assert version.entity is None or version.entity.custom_personal is None
    await desk.privacy.export(made.id, tmp_path / "after", reason="asked", key=signer)
    assert found(b"".join(p.read_bytes() for p in (tmp_path / "after").rglob("*") if p.is_file())) == []
    # The value may belong to somebody else now.
    other = await users.add(BranchUser(iban=secret(IBAN), custom_personal={"hobby": HOBBY}))
    with pytest.raises(Duplicate, match="iban"):
        await users.add(BranchUser(iban=secret(IBAN)))
    with pytest.raises(Invalid):
        await users.update(other, custom_personal={"hobby": 1})
