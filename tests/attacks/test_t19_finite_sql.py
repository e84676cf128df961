"""T19: filters, sort keys and promoted JSON keys from outside. The statements are finitely many; values are binds."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.conftest import Ground
from tests.attacks.entities import ENTITIES, Holder, Parcel, holder, parcel
from tests.cells import sealer

from tallystick import Offset, asc, contains, desc, key, missing, one_of, order_by, prefix
from tallystick.codec import codec_of
from tallystick.conditions import Query
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.entity import spec_of
from tallystick.errors import Invalid
from tallystick.ids import uuid7
from tallystick.query import orders
from tallystick.stores.postgres.compile import Compiler

SPEC = spec_of(Parcel)
# Everything that a statement of this entity may be made of. What came from outside is not in it.
WORDS = {c.name for c in SPEC.columns} | set(
    "SELECT FROM WHERE AND OR NOT IS NULL TRUE true false ANY IN ORDER BY DESC LIMIT OFFSET DISTINCT UNION ALL AS "  # noqa: SIM905
    "merged count unnest strpos text bigint jsonb tally parcel s key_state generation key_generation".split()
)
INJECTIONS = [
    "label; DROP TABLE tally.parcel",
    "label--",
    "(SELECT 1)",
    "count desc, (select pg_sleep(9))",
    "id,(CASE WHEN true THEN 1 END)",
    'label COLLATE "de_DE"',
    "national_id",
    "national_id_bidx",
    "phone",
    "score",
    "tenant_id::text",
    "document->>'score'",
    "document.score",
    "rules",
    "table",
    "Filter",
    "__class__",
    "__init__",
    "_tally_spec",
    "mro",
    "LABEL",
    "\uff4cabel",
    "label\0",
    "",
    " ",
    ",",
    "-",
    "--label",
    "label,label",
    "-count,count",
]


def compiled(query: Query, ground: Ground, tenant: TenantInfo) -> tuple[str, list[Any]]:
    values = codec_of(SPEC).bind(query.where, sealer(tenant.id, ground.keys))
    bound = Query(where=query.where, values=values, order=query.order, limit=query.limit, offset=query.offset)
    return Compiler(codec_of(SPEC)).select(bound, tenant.id)


def only_known_words(sql: str) -> None:
    assert "'" not in sql, sql
    assert '"' not in sql, sql
    assert ";" not in sql, sql
    assert "--" not in sql, sql
    assert set(re.findall(r"[A-Za-z_][A-Za-z_0-9]*", sql)) <= WORDS, sql
    assert set(re.findall(r"(?<!\$)\b\d+", sql)) <= {"20", "0", "1"}, sql


def has_remedy(refused: Invalid) -> None:
    assert refused.remedy


TEXT = st.text(max_size=60)


@settings(max_examples=300)
@given(name=TEXT | st.sampled_from(sorted(Parcel.Filter._tally_plan)), value=TEXT)
async def test_t19_any_filter_is_refused_or_one_of_finitely_many_statements(
    ground: Ground, one: TenantInfo, name: str, value: str
) -> None:
    try:
        where = Parcel.Filter.parse({name: value}).conditions()
        sql, args = compiled(Query(where=where, order=orders(SPEC, None), limit=20), ground, one)
    except Invalid as refused:
        has_remedy(refused)
        return
    assert name in Parcel.Filter._tally_plan
    only_known_words(sql)
    assert sql.count("$") >= len(args)


@settings(max_examples=200)
@given(keys=TEXT | st.lists(st.sampled_from([*SPEC.fields, *(f"-{f}" for f in SPEC.fields)]), max_size=4).map(",".join))
def test_t19_any_sort_key_is_refused_or_a_declared_field(keys: str) -> None:
    try:
        wanted = order_by(Parcel, keys)
    except Invalid as refused:
        has_remedy(refused)
        return
    names = [o.field.name for o in wanted]
    assert len(set(names)) == len(names)
    for name in names:
        field = SPEC.fields[name]
        assert not field.sealed
        assert field.kind.value not in ("json", "bytes")
    assert {k.strip().lstrip("-") for k in keys.split(",")} == set(names)


@pytest.mark.parametrize("text", INJECTIONS)
async def test_t19_an_injection_in_a_sort_key_or_filter_name_is_refused(
    ground: Ground, one: TenantInfo, text: str
) -> None:
    with pytest.raises(Invalid) as caught:
        order_by(Parcel, text)
    assert caught.value.remedy
    if text not in Parcel.Filter._tally_plan:
        with pytest.raises(Invalid):
            Parcel.Filter.parse({text: "1"})
    async with ground.tally.session(one, actor="a") as db:
        for order in (text, [text], (text,)):
            with pytest.raises(Invalid):
                await db[Parcel].find(order=order)


@pytest.mark.parametrize("entity", ENTITIES)
def test_t19_what_is_sealed_is_neither_sorted_by_nor_searched_but_by_its_index(entity: Any) -> None:
    """Sorting by a ciphertext, or filtering one by range, would make an oracle of the order of rows."""
    for name, field in spec_of(entity).fields.items():
        if not field.sealed:
            continue
        handle = getattr(entity, name)
        for make in (asc, desc):
            with pytest.raises(Invalid):
                make(handle)
        for compare in (
            lambda h=handle: h < "x",
            lambda h=handle: h >= "x",
            lambda h=handle: prefix(h, "x"),
            lambda h=handle: contains(h, "x"),
        ):
            with pytest.raises(Invalid):
                compare()
        offered = {p for p in entity.Filter._tally_plan if p == name or p.startswith(f"{name}_")}
        allowed = {blind.name for blind in field.blind}
        assert offered <= allowed | {f"{name}_missing"}


@pytest.mark.parametrize("name", ["score'; --", "missing", "", "score ", "SCORE", None, 5])
def test_t19_only_a_promoted_key_of_a_document_can_be_asked_for(name: Any) -> None:
    with pytest.raises(Invalid):
        key(Parcel.document, name)


@settings(max_examples=100)
@given(value=TEXT, start=st.text(min_size=1, max_size=20))
async def test_t19_values_find_themselves_and_nothing_else(
    ground: Ground, one: TenantInfo, value: str, start: str
) -> None:
    """Whatever is in a value, it is compared as it is, or refused."""
    async with ground.tally.session(one, actor="a") as db, db.transaction():
        home = await db[Holder].upsert(holder("home"), on=Holder.code)
        try:
            await db[Parcel].upsert(parcel(home, "the one", remark=value), on=Parcel.label)
        except Invalid:
            assert "\0" in value or any("\ud800" <= c <= "\udfff" for c in value)
            return
        assert await db[Parcel].count(Parcel.remark == value) == 1
        assert await db[Parcel].count(one_of(Parcel.remark, [value, "another"])) == 1
        assert await db[Parcel].count(contains(Parcel.remark, value)) == 1
        try:
            expected = value.startswith(start)
            assert await db[Parcel].exists(prefix(Parcel.remark, start)) is expected
            assert await db[Parcel].exists(contains(Parcel.remark, start)) is (start in value)
        except Invalid:
            assert "\0" in start or any("\ud800" <= c <= "\udfff" for c in start)


async def test_t19_offsets_and_limits_make_no_new_statements(ground: Ground, one: TenantInfo) -> None:
    texts = {compiled(Query(order=orders(SPEC, None), limit=20, offset=n), ground, one)[0] for n in (1, 7, 10**6)}
    assert len(texts) == 1
    merged = {
        compiled(
            Query(where=(one_of(Parcel.count, [1, 2]),), order=orders(SPEC, None), limit=20, offset=n), ground, one
        )[0]
        for n in (1, 7, 10**6)
    }
    assert len(merged) == 1
    async with ground.tally.session(one, actor="a") as db:
        assert (await db[Parcel].page(after=Offset(3))).items == []


def test_t19_a_query_string_is_decoded_whole_or_not_at_all() -> None:
    for text in ("stage=open&nonsense=1", "stage=open&stage=held", "count=5&count_from=x", "stage=OPEN", "missing=1"):
        with pytest.raises(Invalid) as caught:
            Parcel.Filter.parse(parse_qsl(text))
        assert caught.value.field
    assert len(Parcel.Filter.parse(parse_qsl("stage=open&count_from=5&remark_missing=true")).conditions()) == 3
    assert repr(missing(Parcel.remark)) == "missing(Parcel.remark)"


@pytest.fixture
async def one(ground: Ground) -> TenantInfo:
    """A tenant; ids of nothing are as good as any."""
    assert uuid7() != uuid7()
    return (await ground.tenants(1))[0]
