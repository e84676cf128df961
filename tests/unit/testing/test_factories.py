"""Factories: every entity can be made from its declaration, and what a test says wins."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.entities import ALL, APART, Colour, Detail, Member, Shelf, Sink, Visit, VisitStatus

from tallystick import (
    Application,
    Community,
    CustomField,
    Decision,
    Endorsement,
    ErasureRequest,
    ErasureStep,
    Invalid,
    Money,
    RetentionPolicy,
    User,
    UserStatus,
    Wallet,
    eur,
    usd,
    uuid7,
)
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.entity import spec_of
from tallystick.privacy.sealed import plaintext_of
from tallystick.session import Session
from tallystick.spec import Kind
from tallystick.testing import Make, recipe

# Entities with guards of their own are made by the operations of their domain, and what is about one with it.
FREE = [e for e in (*entities_of(DOMAINS), *ALL) if not spec_of(e).guards and e.__name__ not in APART]


@pytest.mark.parametrize("entity", FREE, ids=lambda e: e.__name__)
async def test_every_entity_can_be_made(entity, db: Session, make: Make):
    one, two = await make(entity), await make(entity)
    assert one.version == two.version == 1
    assert await db[entity].get(one.id) is not None
    assert await db[entity].count() == 2


@pytest.mark.parametrize("entity", FREE, ids=lambda e: e.__name__)
async def test_every_field_can_be_made(entity, db: Session, make: Make):
    spec = spec_of(entity)
    values = {
        name: make._guesses.value(spec, field)
        for name, field in spec.fields.items()
        if not (field.system or field.maintained)
        and field.kind is not Kind.REF
        and name not in ("archived_at", "mfa_enabled")
    }
    if entity is Decision:
        values |= {"is_final": False}
    if entity is Endorsement:
        values |= {"ended_on": None}
    if entity is Community:
        values |= {"max_loan_amount": Money(5, values["asset"])}
    if entity is CustomField:
        values |= {"choices": []}
    # Fields that go together, or not at all.
    apart = {ErasureRequest: "refusal", ErasureStep: "erased_at", RetentionPolicy: "maximum_months"}
    if entity in apart:
        values |= {apart[entity]: None}
    made = await make(entity, **values)
    stored = await db[entity].get(made.id)
    for name, field in spec.fields.items():
        if not field.sealed and not field.system:
            assert getattr(stored, name) == getattr(made, name)


async def test_what_is_given_wins(db: Session, make: Make):
    user = await make(User, email="ada@example.org", status=UserStatus.ACTIVE)
    visit = await make(Visit, borrower=user, fee=usd("3"), national_id="123-45-6789")
    assert visit.borrower.id == user.id
    assert visit.fee == usd("3")
    assert visit.status is VisitStatus.PLANNED
    assert await db[Visit].reveal(visit.id, Visit.national_id, reason="a test") == "123-45-6789"
    by_id = await make(Visit, borrower=user.id)
    assert by_id.borrower.id == user.id
    by_ref = await make(Visit, borrower=user.ref)
    assert by_ref.borrower == user.ref


async def test_required_references_are_made_and_shared_by_many(db: Session, make: Make):
    visits = await make.many(Visit, 5, fee=eur("2"))
    assert {v.borrower.id for v in visits} == {(await db.users.one()).id}
    assert {v.fee for v in visits} == {eur("2")}


async def test_money_shares_the_asset_that_was_given(make: Make):
    sink = await make(Sink, fee=eur("1"), ceiling=eur("9"))
    assert sink.fee == eur("1")
    application = await make(Application, requested_amount=eur("100"))
    assert application.annual_income.asset == "EUR"


async def test_checks_are_met(make: Make):
    # A final one moves its application, which is for db.applications.decide().
    decision = await make(Decision, is_final=False)
    assert decision.model_version is not None
    wallet = await make(Wallet)
    assert 20 <= len(wallet.address) <= 64
    assert wallet.chain_id > 0
    assert (await make(Shelf)).stock >= 0


async def test_people_are_plausible(make: Make):
    user = make.build(User)
    assert user.email.endswith("@example.org")
    application = make.build(Application)
    assert len(plaintext_of(application.ssn)) == 9
    assert set(plaintext_of(application.ssn)) <= set(string.digits)
    assert " " in application.full_legal_name


async def test_unique_values_differ(make: Make, db: Session):
    users = await make.many(User, 300)
    assert len({u.email for u in users}) == 300
    await make.many(Member, 300)
    await make.many(Shelf, 300)
    await make.many(Wallet, 300)


def test_build_stores_nothing_and_needs_no_database():
    visit = Make(None).build(Visit, fee=usd("4"))  # type: ignore[arg-type]
    assert visit.version == 0
    assert visit.borrower.value.email.endswith("@example.org")


def test_the_same_seed_makes_the_same_values():
    def values(seed: str) -> list[object]:
        make = Make(None, seed=seed)  # type: ignore[arg-type]
        return [
            (v.fee, plaintext_of(v.national_id), v.borrower.value.email) for v in (make.build(Visit) for _ in range(5))
        ]

    assert values("one") == values("one")
    assert values("one") != values("two")


async def test_recipes_and_entities_by_name(make: Make, db: Session):
    @recipe
    async def finished_visit(make: Make, **given):
        visit = await make(Visit, **given)
        return await make._db[Visit].update(visit, status=VisitStatus.DONE)

    assert (await make.finished_visit(fee=usd("7"))).status is VisitStatus.DONE
    assert (await make.visit(fee=usd("8"))).fee == usd("8")
    assert (await make.user()).version == 1
    assert (await make.user_account()).version == 1
    with pytest.raises(AttributeError, match="no recipe"):
        make.spaceship()


async def test_another_tenant(make: Make, sandbox, db: Session):
    await sandbox.tally.tenants.create("factories-next-door", name="Next door")
    async with sandbox.session("factories-next-door") as other:
        theirs = await make.on(other)(User)
        assert theirs.tenant_id == other.tenant_id
        assert await db.users.count() == 0


async def test_wrong_fields_are_refused(make: Make):
    with pytest.raises(Invalid, match="no field colour"):
        await make(User, colour="red")
    with pytest.raises(Invalid):
        await make(User, failed_login_attempts=-4)


async def test_documents_and_enums(make: Make):
    sink = await make(Sink, detail=Detail(name="x"), colour=Colour.BLUE, payload={"score": 3})
    assert sink.payload == {"score": 3}
    assert make._guesses.plain(Detail, "detail").name.startswith("name")
    with pytest.raises(Invalid, match="made up"):
        make._guesses.plain(complex, "oddity")


async def test_a_reference_in_circles_says_so(make: Make):
    make._making.append(Visit)
    with pytest.raises(Invalid, match="needs another Visit"):
        await make(Visit)
    make._making.clear()
    assert (await make(Visit, borrower=(await make(User)).id)).version == 1
    assert uuid7()


@given(st.integers(0, 10**9), st.integers(1, 40), st.integers(0, 40))
def test_texts_keep_their_length(number, most, least):
    from dataclasses import replace

    from tallystick.testing.guesses import Guesses

    least = min(least, most)
    field = replace(spec_of(Shelf).fields["name"], max_length=most, min_length=least)
    guesses = Guesses("x")
    guesses._number = number
    assert least <= len(guesses.value(spec_of(Shelf), field)) <= most
