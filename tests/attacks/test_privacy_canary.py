"""E12: personal data anywhere but under its key. A value is planted in every sealed field and then looked for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select
from tests.attacks.test_secrets import everything
from tests.privacy.rights import ENTITIES, NOTICE

from tallystick import Purpose, User, secret
from tallystick.app import Tallystick
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.domains.identity.profiles import UserProfile
from tallystick.entity import Entity, spec_of
from tallystick.errors import TallystickError
from tallystick.privacy.redact import RedactingFilter
from tallystick.session import Session
from tallystick.settings import Settings, connect_args
from tallystick.spec import FieldSpec, Kind
from tallystick.testing.factories import Make

BORN = date(1913, 7, 29)
COMMON = [
    part
    for said in (b"739104", b"1913-07-29")
    for part in (said, said.hex().encode(), said.decode().encode("utf-16-le"), base64.b64encode(said)[:8])
] + [base64.b64encode(b"Zq7391")]
"""What every canary has in it, in each of the ways of writing it."""


class Nest:
    """Makes canaries, unlike each other and anything else, and knows how each might be written."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def value(self, place: str, field: FieldSpec) -> Any:
        number = 739_104_000_000 + 1_009 * len(self.planted)
        word = f"Zq{number}Xk"
        kind, said, made = field.inner, word, None
        if kind is int:
            said, made = str(number), number
        elif kind is date:
            said, made = BORN.isoformat(), BORN
        elif field.search == "email":
            made = f"{word}@example.org"
        elif field.search in ("digits", "phone"):
            said = made = str(number)
        elif kind is str:
            made = word
        else:
            made = {"note": word}
        self.planted[place] = said
        return secret(made) if field.kind is Kind.SECRET else made

    def needles(self) -> Iterator[tuple[str, bytes]]:
        for place, said in self.planted.items():
            raw = said.encode()
            for form in (raw, raw.lower(), raw.hex().encode(), said.encode("utf-16-le"), base64.b64encode(raw)[:-4]):
                yield place, form

    def found(self, where: str, content: bytes) -> list[str]:
        if not any(part in content for part in COMMON):
            return []
        return [f"{place} in {where}" for place, needle in self.needles() if needle in content]


# Checks that tie several fields together.
TIED: dict[str, dict[str, Any]] = {"adverse_action_notice": NOTICE}


async def plant(db: Session, nest: Nest, entities: list[type[Entity]]) -> dict[str, Any]:
    make, made = Make(db, seed="canary"), dict[str, Any]()
    for entity in entities:
        spec = spec_of(entity)
        if spec.sealed:
            given = {f.name: nest.value(f"{spec.table}.{f.name}", f) for f in spec.fields.values() if f.sealed}
            if spec.subject is not None and spec.fields[spec.subject].optional:
                given[spec.subject] = made["user_account"].ref
            made[spec.table] = await make(entity, **given, **TIED.get(spec.table, {}))
    return made


async def trouble(db: Session, made: dict[str, Any], nest: Nest) -> list[str]:
    """Every way of getting an error about these values, and what such an error says."""
    user, profile = made["user_account"], made["user_profile"]
    canary = nest.planted["user_account.first_name"]
    email, name = user.email, user.first_name
    told: list[str] = []

    async def tried(work: Any) -> None:
        try:
            await work
        except (TallystickError, TypeError, ValueError, asyncpg.PostgresError) as problem:
            logging.getLogger("application").exception("it failed for %s", user)
            told.append(everything(problem))

    await tried(db.users.add(User(email=email, first_name=name)))
    await tried(db.users.add(User(email=email, first_name="x" * 2_000_000 + canary)))
    await tried(db.users.update(user, phone=canary))
    await tried(db.users.find(User.email == canary))
    await tried(db.users.find(User.role == canary))  # type: ignore[arg-type]
    await tried(db.users.update(user, failed_login_attempts=canary))
    await tried(db.profiles.update(profile, ssn=canary))
    await tried(db.fetch(select(User.table).where(User.table.c.id == canary), into=dict))  # type: ignore[attr-defined]
    await tried(db.fetch(select(User.table).where(User.table.c.failed_login_attempts == canary), into=dict))  # type: ignore[attr-defined]
    await tried(db.unit.call("SELECT $1::text::integer, $2::uuid", (canary, db.tenant_id)))
    await tried(db.users.reveal(user.id, UserProfile.ssn, reason=canary))
    assert len(told) >= 8
    return told


async def dumped(url: str) -> bytes:
    """Every row of every table, as a backup has it."""
    import io

    connection = await asyncpg.connect(**connect_args(url))
    try:
        out = io.BytesIO()
        for table in await connection.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname LIKE 'tally%' AND c.relkind IN ('r', 'p')"
        ):
            await connection.copy_from_query(f"SELECT * FROM {table['name']}", output=out)
        await connection.execute("CHECKPOINT")
        return out.getvalue()
    finally:
        await connection.close()


async def test_e12_nothing_personal_is_anywhere_but_under_its_key(place: Path, capsys: pytest.CaptureFixture[str]):
    log = place / "application.log"
    handler = logging.FileHandler(log)
    entities = [*entities_of(DOMAINS), *ENTITIES]
    handler.addFilter(RedactingFilter(entities))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    nest = Nest()
    try:
        async with Tallystick.open(settings=Settings.load({}, data_dir=place / "db"), entities=ENTITIES) as tally:
            await tally.migrate()
            await tally.tenants.create("canary", name="A tenant")
            async with tally.session("canary", actor="test", permissions=("*",), reason="a test") as db:
                made = await plant(db, nest, entities)
                assert len(nest.planted) > 25
                told = await trouble(db, made, nest)
                user = made["user_account"]
                assert (await db.users.by_email(user.email)).id == user.id  # type: ignore[union-attr]
                await db.consents.grant(user, Purpose.MARKETING, policy_version="1")
                await db.profiles.reveal(made["user_profile"].id, UserProfile.ssn, reason="a test")
                logging.getLogger("application").info("hello %s, born %s", user, made["user_profile"])
                for name in ("user_account", "user_profile", "application"):
                    told += [repr(made[name]), str(made[name]), f"{made[name]}"]
                told.append("".join(e.body for e in (await db.audit.entries(limit=500)).items))
                before = await copies(tally, place, "before")
                found = nest.found("errors, reprs and the audit log", "\n".join(told).encode())
                asked = await db.privacy.request_erasure(user)
                told.append(repr(await db.privacy.erase(asked)))
            found += nest.found("what erasing said", told[-1].encode())
            assert tally.server is not None
            dump = before + await copies(tally, place, "after")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    # Stopped: buffers and WAL are in files now. The sealing key, the data's own keys and the anchors are there too.
    found += nest.found("a backup", dump)
    found += nest.found("standard output", "".join(capsys.readouterr()).encode())
    files = 0
    for file in place.rglob("*"):  # noqa: ASYNC240
        if file.is_file():
            with contextlib.suppress(PermissionError):
                found += nest.found(str(file.relative_to(place)), file.read_bytes())
                files += 1
    assert files > 300
    assert found == []


async def copies(tally: Tallystick, place: Path, name: str) -> bytes:
    """A dump of the database, and a bundle of the audit log beside it."""
    server = tally.server
    assert server is not None
    async with asyncio.timeout(120):
        while (await tally.audit.seal()).unsealed:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await tally.audit.export("canary", place / f"{name}.bundle")
    return await dumped(server._url("postgres", server._passwords["postgres"], "tallystick"))


def test_the_net_catches_what_is_not_sealed():
    """The search itself finds what is there."""
    nest = Nest()
    spec = spec_of(User)
    nest.value("here", spec.fields["first_name"])
    said = nest.planted["here"]
    for content in (
        said.encode(),
        said.lower().encode(),
        said.encode().hex().encode(),
        base64.b64encode(said.encode()),
    ):
        assert nest.found("x", b"..." + content + b"...")
    assert nest.found("x", os.urandom(64)) == []
