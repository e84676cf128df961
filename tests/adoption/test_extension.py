"""Columns of an application's own on built-in entities: one row, one table, and everything that holds of it."""

from __future__ import annotations

import asyncio
import types
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from tests.adoption.branches import (
    ENTITIES,
    Branch,
    BranchApplication,
    BranchLoan,
    BranchUser,
    Collection,
    House,
)
from tests.lending.support import active, product

from tallystick import (
    Entity,
    Foreign,
    Guard,
    Index,
    Length,
    Loan,
    Maintained,
    Money,
    Ref,
    Rules,
    Secret,
    Session,
    Tallystick,
    Transfer,
    Transitions,
    Unique,
    User,
    UserStatus,
    adopt,
    backref,
    one_of,
    secret,
    usd,
)
from tallystick.domains.catalog import entities_of
from tallystick.domains.identity.erasures import ErasureGround
from tallystick.domains.identity.users import Users
from tallystick.domains.lending.repository import Loans
from tallystick.entity import spec_of
from tallystick.errors import (
    Declaration,
    Duplicate,
    Erased,
    Invalid,
    InvalidTransition,
    MigrationUnsafe,
    StaleVersion,
    UnknownReference,
)
from tallystick.extension import living
from tallystick.schema.branches import history
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, revision
from tallystick.schema.privacy_lint import unclassified


async def test_old_rows_are_read_by_the_extension_with_its_defaults(house: House, db: Session):
    old = await db[BranchUser].get(house.old)
    assert isinstance(old, BranchUser)
    assert (old.email, old.tier, old.since, old.desk, old.iban, old.custom) == (
        "old@example.org", 1, date(2020, 1, 1), None, None, {},
    )  # fmt: skip
    assert await db.users.get(house.old) == old


async def test_every_way_to_the_repository_is_the_built_in_one_on_the_extension(db: Session):
    assert db.users is db[BranchUser] is db[User]  # type: ignore[comparison-overlap]
    assert type(db[BranchUser]) is Users
    assert type(db[BranchLoan]) is Loans
    assert db.loans.spec.cls is BranchLoan
    found = await db.users.by_email("old@example.org")
    assert isinstance(found, BranchUser)


async def test_added_columns_are_written_filtered_ordered_and_kept_apart(db: Session):
    branch = await db[Branch].add(Branch(code="north"))
    made = await db[BranchUser].add(
        BranchUser(
            email="ada@example.org", desk="12", branch=branch.ref, tier=3, ceiling=usd("50"),
            iban=secret("DE02120300000000202051"), nickname="Addie",
        )
    )  # fmt: skip
    read = await db[BranchUser].get(made.id, load=[BranchUser.branch])
    assert (read.desk, read.tier, read.ceiling, read.nickname) == ("12", 3, usd("50"), "Addie")
    assert read.branch is not None
    assert read.branch.value.code == "north"
    assert str(read.iban).endswith("2051")
    assert await db[BranchUser].reveal(made.id, BranchUser.iban, reason="a test") == "DE02120300000000202051"
    for where in (
        BranchUser.desk == "12",
        BranchUser.branch == branch.ref,
        BranchUser.iban == "DE02120300000000202051",
        BranchUser.nickname == "ADDIE",
        BranchUser.Filter.parse({"desk": "12", "tier_from": "3"}),
        one_of(User.id, [made.id]),
        User.email == "Ada@Example.org",
    ):
        assert [u.id for u in await db[BranchUser].find(where, User.tenant_id == db.tenant_id)] == [made.id]
    page = await db[BranchUser].page(order=[BranchUser.tier, User.id], limit=1)
    assert page.next
    assert (await db[BranchUser].page(order=[BranchUser.tier, User.id], after=page.next, limit=1)).items
    with pytest.raises(Duplicate):
        await db[BranchUser].add(BranchUser(iban=secret("DE02120300000000202051")))
    with pytest.raises(UnknownReference):
        await db[BranchUser].add(BranchUser(branch=Ref(made.id)))
    with pytest.raises(Invalid):
        await db[BranchUser].add(BranchUser(tier=9))
    with pytest.raises(Invalid):
        BranchUser.Filter.parse({"bench": "12"})


async def test_operations_of_the_library_leave_added_columns_alone(db: Session):
    clerk = await db[BranchUser].add(BranchUser(desk="7", status=UserStatus.ACTIVE))
    what = await product(db, "ext")
    loan = await active(db, what, borrower=clerk)
    assert isinstance(loan, BranchLoan)
    loan = await db[BranchLoan].update(loan, collection=Collection.CALLED, collector=clerk.ref)
    await db.loans.repay(loan.id, usd("10"), on=date(2026, 2, 1), key="r1")
    again = await db.loans.get(loan.id)
    assert isinstance(again, BranchLoan)
    assert (again.collection, again.collector) == (Collection.CALLED, clerk.ref)
    with pytest.raises(InvalidTransition):
        await db[BranchLoan].update(
            await db[BranchLoan].update(again, collection=Collection.NONE), collection=Collection.VISITED
        )
    # A plain value is stored as the extension's, with its defaults; one that is changed changes its own columns.
    bare = await db.users.add(User(email="bare@example.org"))
    assert isinstance(bare, BranchUser)
    await db[BranchUser].update(bare, desk="9")
    stale = User(**{n: getattr(bare, n) for n in User.__struct_fields__})
    with pytest.raises(StaleVersion):
        await db.users.update(stale, is_verified=True)
    fresh = User(**{n: getattr(await db.users.get(bare.id), n) for n in User.__struct_fields__})
    assert type(await db.users.update(fresh, is_verified=True)) is User
    kept = await db[BranchUser].get(bare.id)
    assert (kept.desk, kept.is_verified) == ("9", True)
    with pytest.raises(Invalid):
        await db.users.update(fresh, desk="1")
    put = User(email="bare@example.org", first_name="Bare")
    await db.users.upsert(put, on=User.email)
    assert (await db[BranchUser].get(bare.id)).desk == "9"


async def test_references_totals_and_statements_reach_the_extension(db: Session):
    clerk = await db[BranchUser].add(BranchUser(desk="77", status=UserStatus.ACTIVE))
    loan = await active(db, await product(db, "ref"), borrower=clerk)
    await db[BranchLoan].update(await db[BranchLoan].get(loan.id), collector=clerk.ref)
    read = await db.loans.get(loan.id, load=[Loan.borrower, BranchLoan.collector])
    assert isinstance(read, BranchLoan)
    assert type(read.borrower.value) is BranchUser
    assert read.collector is not None
    assert read.collector.value.id == clerk.id
    back = await db.load([clerk], backref(Loan, Loan.borrower))
    assert [type(one) for one in back[clerk.id]] == [BranchLoan]
    back = await db.load([clerk], backref(BranchLoan, BranchLoan.collector))
    assert [one.id for one in back[clerk.id]] == [loan.id]
    for table in (BranchUser.table, User.table, BranchUser.table):
        found = await db.fetch(select(table.c.id).where(table.c.id == clerk.id), into=dict)
        assert [row["id"] for row in found] == [clerk.id]
    rows = await db.fetch(select(BranchUser.table.c.desk).where(BranchUser.table.c.tier == 1), into=dict)
    assert {"desk": "77"} in rows
    keys = {k.columns: k.table for k in spec_of(Visitor).foreign_keys}
    assert keys["tenant_id", "host_id"] == "user_account"


class Visitor(Entity):
    """Somebody who comes to see a user."""

    host: Ref[BranchUser]


async def test_a_process_that_does_not_know_the_extension_goes_on(house: House, db: Session, plain: Session):
    made = await plain.users.add(User(email="n1@example.org"))
    assert type(made) is User
    seen = await db[BranchUser].get(made.id)
    assert (seen.tier, seen.custom) == (1, {})
    await db[BranchUser].update(seen, desk="3", tier=2)
    again = await plain.users.get(made.id)
    await plain.users.update(again, first_name="Nan")
    assert ((await db[BranchUser].get(made.id)).desk, (await db[BranchUser].get(made.id)).tier) == ("3", 2)
    with pytest.raises(Invalid):
        plain[BranchUser]
    with pytest.raises(Invalid):
        await plain.users.add(BranchUser(desk="1"))
    with pytest.raises(Invalid):
        await plain.users.find(BranchUser.desk == "1")


async def test_audit_has_the_added_columns_and_no_blind_index(db: Session):
    made = await db[BranchUser].add(BranchUser(desk="1", iban=secret("DE75512108001245126199")))
    await db[BranchUser].update(made, desk="2")
    history = await db[BranchUser].history(made.id)
    assert [v.entity.desk for v in history if v.entity] == ["1", "2"]
    assert history[-1].changed == ("desk",)
    bodies = [e.body for e in await db.audit.entries(BranchUser, key=made.id)]
    assert bodies
    assert not any("iban_bidx" in str(b) for b in bodies)


async def test_what_an_extension_seals_is_exported_and_erased_with_the_person(
    house: House, db: Session, tmp_path: Path
):
    person = await db[BranchUser].add(
        BranchUser(email="gone@example.org", iban=secret("FR1420041010050500013M02606"), nickname="Gonzo")
    )
    signer = Ed25519PrivateKey.generate()
    assert await db.privacy.export(person.id, tmp_path / "export", reason="they asked", key=signer)
    texts = b"".join(p.read_bytes() for p in (tmp_path / "export").rglob("*") if p.is_file())
    assert b"Gonzo" in texts
    done = await db.privacy.erase(await db.privacy.request_erasure(person, ground=ErasureGround.CONSENT_WITHDRAWN))
    assert "identity" in done.erased
    gone = await db[BranchUser].get(person.id)
    assert (gone.nickname, gone.status) == (None, UserStatus.ERASED)
    with pytest.raises(Erased):
        await db[BranchUser].reveal(person.id, BranchUser.iban, reason="a test")
    assert await db[BranchUser].find(BranchUser.iban == "FR1420041010050500013M02606") == []
    rows = await house.database.run(
        "SELECT nickname_bidx, iban_bidx FROM tally.user_account WHERE id = $1", person.id, role="superuser"
    )
    assert tuple(rows[0]) == (None, None)


async def test_declared_is_what_was_migrated(house: House):
    entities = living((*entities_of(house.tally.domains), *ENTITIES))
    conn = await house.database.connect()
    try:
        found = await lint(conn, house.database.roles, entities)
    finally:
        await conn.close()
    assert not found
    assert not unclassified(entities)
    again = await revision(
        house.database.admin, "again", branch="shop", entities=ENTITIES, roles=house.database.roles,
        version_locations=[house.folder],
    )  # fmt: skip
    assert again == []
    text = "".join(p.read_text() for p in house.written)
    assert "BRANCH = Table(" in text
    assert "USER_ACCOUNT = Table(" not in text
    assert f'"{history().heads("identity")[0]}"' in text


async def test_without_its_revision_an_extension_is_refused_with_the_command(house: House):
    with pytest.raises(MigrationUnsafe, match="tallystick revision"):
        await migrate(
            house.database.admin, entities=(Branch, Wider), roles=house.database.roles, version_locations=[house.folder]
        )
    for entities, lost in ((ENTITIES, ()), ((Branch, Wider), ("user_account.floor",))):
        found = await adopt(
            house.database.admin, roles=house.database.roles, entities=entities, version_locations=[house.folder]
        )
        assert (found.adopted, found.domains[-1].missing) == (not lost, lost)
        assert not {"user_account", "loan"} & set(found.domains[-1].there)


class Wider(User):
    """Another application's."""

    floor: int = 0

    rules = Rules(extends=User)


async def test_eight_writers_on_both_sides_lose_nothing(house: House, db: Session, plain: Session):
    made = await db[BranchUser].add(BranchUser(email="race@example.org", tier=1))
    wins = {"desk": 0, "first_name": 0}

    async def write(tally: Tallystick, field: str, number: int) -> None:
        async with tally.session(house.tenant, actor=f"job:{number}", permissions=("*",)) as mine:
            for _ in range(40):
                row = await mine.users.get(made.id)
                try:
                    await mine.users.update(row, **{field: str(number)})
                except StaleVersion:
                    continue
                wins[field] += 1
                return

    await asyncio.wait_for(
        asyncio.gather(
            *(write(house.tally, "desk", n) for n in range(4)),
            *(write(house.plain, "first_name", n) for n in range(4)),
        ),
        60,
    )
    last = await db[BranchUser].get(made.id)
    assert wins == {"desk": 4, "first_name": 4}
    assert last.version == made.version + 8
    assert last.desk in set("0123")
    assert last.first_name in set("0123")


def declared(rules: Rules | None = None, base: type[Entity] = User, **fields: Any) -> type[Entity]:
    """An extension made on the spot."""
    hints = {n: f[0] if isinstance(f, tuple) else f for n, f in fields.items()}
    values = {n: f[1] for n, f in fields.items() if isinstance(f, tuple)}
    space = {"__annotations__": hints, "__module__": __name__, "__doc__": "Made.", **values}
    return types.new_class("Made", (base,), exec_body=lambda n: n.update(space, rules=rules or Rules(extends=base)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: declared(email=(str, "")), "may not change"),
        (lambda: declared(floor=int), "no value for rows"),
        (lambda: declared(pin=Secret[str]), "no value for rows"),
        (lambda: declared(at=Ref[User]), "no value for rows"),
        (lambda: declared(fee=(Money | None, None)), "share the row's asset"),
        (lambda: declared(total=(Annotated[int, Maintained()], 0)), "maintain"),
        (lambda: declared(Rules(extends=User, table="other")), "sets table"),
        (lambda: declared(Rules(extends=User, audit=False)), "sets audit"),
        (lambda: declared(Rules(extends=User, retain="lending")), "sets retain"),
        (lambda: declared(Rules(Guard("g", "AFTER INSERT", "tally.g()"), extends=User)), "change how User works"),
        (lambda: declared(Rules(extends=Loan)), "no subclass"),
        (lambda: declared(Rules(extends=BranchUser), BranchUser), "an extension itself"),
        (lambda: declared(Rules(extends=Transfer), Transfer), "written once"),
        (
            lambda: declared(
                Rules(
                    Transitions("status", {UserStatus.ACTIVE: [UserStatus.PENDING]}, initial=[UserStatus.ACTIVE]),
                    extends=User,
                )
            ),
            "Statuses",
        ),
        (
            lambda: declared(
                Rules(
                    Transitions("step", {Collection.CALLED: [Collection.NONE]}, initial=[Collection.CALLED]),
                    extends=User,
                ),
                step=(Collection, Collection.NONE),
            ),
            "begin in its default",
        ),
        (lambda: declared(Rules(Index("nothing", query="none"), extends=User)), "not a field"),
        (lambda: declared(archived_at=(datetime | None, None)), "would archive rows of User"),
        (lambda: declared(Rules(Unique("email", where="is_verified"), extends=User)), "on which User has one"),
        (lambda: declared(Rules(Index("phone", query="all", where="is_verified"), extends=User)), "User has one"),
        (
            lambda: declared(
                Rules(Foreign("borrower", "desk", to=BranchUser, of=("id", "desk")), extends=Loan),
                Loan,
                desk=(str | None, None),
            ),
            "borrower has its key",
        ),
        (lambda: declared(desk=(Annotated[str, Length(3)], "north")), "longer than 3"),
        (lambda: declared(desk=(str, "a\0")), "NUL"),
        (lambda: declared(status_in=(str | None, None)), "by which rows of User are filtered"),
        (lambda: declared(phone_last4=(str | None, None)), "by which rows of User are filtered"),
        (lambda: declared(tier=(int, 2**63)), "64 bits"),
        (lambda: declared(xmin=(int, 0)), "cannot be a column"),
    ],
)
def test_an_extension_that_cannot_be_right_is_refused(make: Any, says: str):
    with pytest.raises(Declaration, match=says) as caught:
        spec_of(make())
    assert caught.value.remedy


def test_an_index_of_an_extension_takes_none_from_what_it_extends():
    """One that begins with the same reference would else stand in for the reference's own."""
    made = spec_of(declared(Rules(Index("community", "desk", query="x"), extends=Loan), Loan, desk=(str | None, None)))
    assert set(spec_of(Loan).indexes) < set(made.indexes)


def test_one_entity_has_one_extension_and_must_be_there():
    with pytest.raises(Declaration, match="both extend User"):
        Tallystick.open(entities=[BranchUser, Wider])
    with pytest.raises(Declaration, match="does not have"):
        Tallystick.open(domains=["identity"], entities=[BranchLoan])
    tally = Tallystick.open(domains=["underwriting"], entities=[BranchUser, BranchApplication, Branch])
    assert User not in tally.known
    assert BranchUser in tally.known


def test_the_spec_of_what_is_extended_is_untouched():
    before, after = spec_of(User), spec_of(BranchUser)
    assert "desk" not in before.fields
    assert after.table == before.table
    assert after.doc == before.doc
    assert (after.retain, after.audit, after.subject) == (before.retain, before.audit, before.subject)
    assert {i.name for i in before.indexes} <= {i.name for i in after.indexes}
    assert {c.name for c in before.checks} <= {c.name for c in after.checks}
    assert replace(before.fields["email"]) == after.fields["email"]
