"""Masked copies: made-up persons of the same form, everything that refers to them, and nothing of the originals."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from tests.lending.support import active, audit, product
from tests.privacy.rights import ENTITIES, Letter, application, person

from tallystick import Agent, Conflict, Invalid, Loan, Purpose, RoleMissing, User, UserStatus, Wallet, secret
from tallystick.app import Tallystick
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.rights.masking import mask_into
from tallystick.domains.rights.synthetic import Synthetic
from tallystick.entity import spec_of
from tallystick.privacy.keys import LocalKeys
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session
from tallystick.settings import Settings, connect_args
from tallystick.testing import KitServer

NAMES = ("Ada", "Lovelace", "078-05-1120", "078051120", "ada@example.org", "Ring 1", "my loan", "Somerville")


@pytest.fixture
async def staging(tally_server: KitServer, tmp_path: Path) -> AsyncIterator[Tallystick]:
    template = await tally_server.template(None, ENTITIES, ())
    database = await tally_server.clone(template, f"_staging_{uuid4().hex[:6]}")
    settings = Settings.load(
        {},
        database_url=tally_server.url("app", database),
        admin_url=tally_server.url("admin", database),
        role_prefix=tally_server.roles.prefix,
        pool_max=4,
    )
    keys = LocalKeys(os.urandom(32), folder=tmp_path / "staging-keys")
    async with Tallystick.open(settings=settings, entities=ENTITIES, keys=keys) as made:
        yield made
    await tally_server.drop(database)


async def test_a_copy_has_everything_but_the_persons(house: Tallystick, office: Session, staging: Tallystick):
    ada, bob = await person(office), await person(office, "Bob")
    ada = await office.users.update(ada, status=UserStatus.ACTIVE)
    profile = await office.profiles.of_user(ada)
    assert profile is not None
    await office.profiles.update(profile, birth_date=date(1815, 12, 10), address={"street": "Ring 1", "lat": 1.5e-07})
    await office.logins.passwords.set(ada, "correct horse battery")
    await office.outbox.add("letters.due", {"loan": 1}, personal={"name": "Ada Lovelace"}, subject=ada)
    ada = await office.users.get(ada.id)
    await office.consents.grant(
        ada, Purpose.MARKETING, policy_version="7", evidence={"form": 3, "signed": "Ada Lovelace"}
    )
    async with house.session(office.tenant, actor="clerk:Mary Somerville", permissions=("*",)) as clerk:
        await clerk[Agent].add(Agent(user=ada.ref, name="a", address=b"\x08" * 20))
    await application(office, ada)
    await office[Letter].add(Letter(author=ada.ref, about="my loan"))
    await office.wallets.add(Wallet(user=ada.ref, chain_id=1, address=b"\x07" * 20))
    loan = await active(office, await product(office), borrower=ada)
    await office.privacy.erase(await office.privacy.request_erasure(bob))

    keys, connection = staging.keys, await asyncpg.connect(**connect_args(staging.admin_url))
    assert keys is not None
    try:
        async with acting_as_owner(connection, staging.settings.roles):
            done = await mask_into(office, connection, keys, slug="staging", run_key=bytes(range(32)))
        with pytest.raises(Conflict):
            async with acting_as_owner(connection, staging.settings.roles):
                await mask_into(office, connection, keys, slug="staging")
        weak = await connection.fetchval(
            "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE c.relnamespace = 'tally'::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'A'"
        )
        assert weak == 0, "every guard is on again, always"
    finally:
        await connection.close()
    assert done.values >= 9
    assert not any(name.startswith("outbox") for name in done.rows), "a copy sends nothing"

    async with staging.session("staging", actor="t", permissions=("*",), reason="a test") as db:
        for table, count in done.rows.items():
            (there,) = await office.unit.call(
                f'SELECT count(*) FROM tally."{table}" WHERE tenant_id = $1', (office.tenant_id,)
            )
            (here,) = await db.unit.call(f'SELECT count(*) FROM tally."{table}" WHERE tenant_id = $1', (db.tenant_id,))
            assert there[0] == here[0] == count
        copy = await db.users.get(ada.id)
        assert copy.first_name is not None
        assert (len(copy.first_name), copy.first_name.isalpha(), copy.first_name[0].isupper()) == (3, True, True)
        assert copy.first_name != "Ada"
        assert copy.email is not None
        assert copy.email.endswith("@example.org")
        assert [c.isdigit() for c in copy.phone or ""] == [c.isdigit() for c in ada.phone or ""]
        assert (await db.users.by_email(copy.email)).id == ada.id  # type: ignore[union-attr]
        masked = await db.profiles.of_user(ada)
        assert masked is not None
        ssn = await db.profiles.reveal(masked.id, UserProfile.ssn, reason="a test")
        assert (len(ssn), ssn[3], ssn[6]) == (11, "-", "-")
        assert ssn != "078-05-1120"
        assert masked.ssn is not None
        assert masked.ssn.mask.endswith(ssn[-4:])
        assert masked.birth_date not in {None, date(1815, 12, 10)}
        assert list(masked.address or {}) == ["street", "lat"]
        assert [w.address == b"\x07" * 20 for w in await db.wallets.find()] == [False]
        assert [(a.address == b"\x08" * 20, a.created_by) for a in await db[Agent].find()] == [(False, "clerk")]
        assert (copy.password_hash, copy.mfa_secret) == (None, None)
        (given,) = await db.consents.given(ada)
        assert given.evidence is not None
        assert given.evidence["form"] == 3
        assert (await db.users.get(bob.id)).first_name is None
        assert [x.id for x in await db[Loan].find()] == [loan.id]
        await audit(db)
        # The same value is made into the same one, within its column.
        again = Synthetic(bytes(range(32)))
        assert again.value("user_account", spec_of(User).fields["first_name"], "Ada") == copy.first_name

    url, ours = staging.admin_url, office.tenant_id
    dump = await _dump(url, staging)
    for name in NAMES:
        assert name.encode() not in dump
        # Three letters are six digits, which ciphertext has by chance.
        assert len(name) == 3 or name.encode().hex().encode() not in dump
    assert str(ours).encode() not in dump
    rows = await office.unit.call(
        "SELECT u.first_name, u.email_bidx, p.ssn_bidx, k.key_id FROM tally.user_account u JOIN tally.user_profile p "
        "ON p.tenant_id = u.tenant_id AND p.user_id = u.id JOIN tally.data_key k ON k.tenant_id = u.tenant_id "
        "WHERE u.tenant_id = $1 AND u.email_bidx IS NOT NULL",
        (ours,),
    )
    assert rows
    for row in rows:
        assert all(value.hex().encode() not in dump for value in row)


async def _dump(url: str, tally: Tallystick) -> bytes:
    connection = await asyncpg.connect(**connect_args(url))
    try:
        async with acting_as_owner(connection, tally.settings.roles):
            out = []
            async with tally.session("staging", actor="t", permissions=()) as db:
                tenant = db.tenant_id
            await connection.execute("SELECT set_config('tally.tenant', $1, true)", str(tenant))
            tables = await connection.fetch(
                "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n "
                "ON n.oid = c.relnamespace WHERE n.nspname = 'tally' AND c.relkind = 'r'"
            )
            for table in tables:
                rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table['name']} t")
                out += [r["row"].encode() for r in rows]
            return b"\n".join(out)
    finally:
        await connection.close()


async def test_bad_input(office: Session, house: Tallystick):
    for key in (b"", b"x" * 31, "x" * 32):
        with pytest.raises(Invalid):
            Synthetic(key)  # type: ignore[arg-type]
    async with house.session(office.tenant, actor="t", permissions=()) as db:
        with pytest.raises(RoleMissing):
            await mask_into(db, None, None, slug="x")  # type: ignore[arg-type]


def test_made_up_values_keep_their_form():
    one, other = Synthetic(b"a" * 32), Synthetic(b"b" * 32)
    spec = spec_of(UserProfile)
    for value in ("Ærøskøbing 7b", "078-05-1120", "", "日本", "रविन्द्र"):
        made = one.value("user_profile", spec.fields["legal_name"], value)
        assert len(made) == len(value)
        assert made == one.value("user_profile", spec.fields["legal_name"], value)
        assert not set(value) & set(made) - set(" -0123456789abcdefghijklmnopqrstuvwxyz")
        assert not value or made != value
    document = {"street": "Ring 1", "floors": 3, "kept": True, "lines": ["a", None]}
    made = one.value("user_profile", spec.fields["address"], document)
    assert list(made) == list(document)
    assert (made["kept"], made["lines"][1]) == (True, None)
    assert made != other.value("user_profile", spec.fields["address"], document)
    assert secret("x").mask not in made.values()
