"""What a declaration says, once it is resolved: columns, names, rules."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Optional
from uuid import UUID

import msgspec
import pytest
from tests.entities import ALL, Gate, Job, Shelf, Sink

from tallystick import (
    ChainAmount,
    Check,
    Declaration,
    Entity,
    Index,
    Json,
    Length,
    Mask,
    Money,
    Once,
    OwnAsset,
    Personal,
    Queue,
    Ref,
    Retain,
    Rules,
    Search,
    Secret,
    Transitions,
    Unique,
    User,
    append_only,
)
from tallystick.constraints import short, snake
from tallystick.entity import UNSAVED, spec_of
from tallystick.ids import NIL, is_uuid7
from tallystick.spec import Kind


class Mood(StrEnum):
    GOOD = "good"
    BAD = "it's bad"


class Everything(Entity):
    """A thing.

    With more to say below.
    """

    owner: Ref[User]
    mood: Mood
    title: Annotated[str, Length(80, min=2)]
    price: Money
    extra: Annotated[Money | None, OwnAsset()] = None
    wei: ChainAmount | None = None
    ssn: Annotated[Secret[str], Search("digits"), Mask(4)] | None = None
    email: Annotated[Personal[str], Search("email"), Length(320)] | None = None
    note: Personal[str] | None = None
    data: Annotated[dict[str, Any], Json(promote={"score": int})] = msgspec.field(default_factory=dict)
    seen_at: datetime | None = None
    archived_at: datetime | None = None

    rules = Rules(
        Index("mood", "seen_at", query="by mood"),
        Index("data_score", query="by score"),
        Unique("email"),
        Unique("owner", "title", where="title <> ''"),
        Check("title", "title <> 'x'"),
        Transitions("mood", {Mood.GOOD: [Mood.BAD]}, initial=[Mood.GOOD]),
        retain="lending",
    )


SPEC = spec_of(Everything)


def test_columns_follow_the_fields():
    names = [c.name for c in SPEC.columns]
    assert names[:2] == ["tenant_id", "id"]
    assert names[-5:] == ["version", "created_at", "created_by", "updated_at", "updated_by"]
    assert [n for n in names if n.startswith(("ssn", "email", "note"))] == [
        *("ssn", "ssn_bidx", "ssn_bidx_next", "ssn_mask", "email", "email_bidx", "email_bidx_next", "note")
    ]
    assert {"owner_id", "price", "asset", "extra", "extra_asset", "data", "data_score"} <= set(names)
    assert names.index("asset") == names.index("price") + 1
    assert "owner" not in names
    kinds = {c.name: c.sql for c in SPEC.columns}
    assert kinds["wei"] == "numeric(78,0)"
    assert kinds["price"] == "bigint"
    assert kinds["ssn"] == kinds["ssn_bidx"] == kinds["email"] == "bytea"
    assert kinds["title"] == 'text COLLATE "C"'
    assert kinds["seen_at"] == "timestamp with time zone"


def test_what_is_read_and_what_is_hidden():
    hidden = {c.name for c in SPEC.columns} - set(SPEC.read_columns)
    assert hidden == {"ssn_bidx", "ssn_bidx_next", "email_bidx", "email_bidx_next", "data_score"}
    assert not [c for c in SPEC.columns if c.generated and c.insertable]


def test_optional_is_read_in_any_order():
    class Orders(Entity):
        a: Annotated[str, Length(5)] | None = None
        b: Annotated[str | None, Length(5)] = None
        c: Optional[Annotated[str, Length(5)]] = None  # noqa: UP045
        d: Annotated[Annotated[str, Length(5)], "said"] | None = None
        e: str | None = None

    fields = spec_of(Orders).fields
    assert all(fields[n].optional and fields[n].kind is Kind.TEXT for n in "abcde")
    assert [fields[n].max_length for n in "abcde"] == [5, 5, 5, 5, None]


def test_classes_may_be_local_and_refer_to_themselves():
    class Node(Entity):
        parent: Ref[Node] | None = None

    assert spec_of(Node).fields["parent"].inner is Node
    assert spec_of(Sink).fields["parent"].inner is Sink
    (fk,) = [f for f in spec_of(Node).foreign_keys if f.table == "node"]
    assert fk.columns == ("tenant_id", "parent_id")


def test_every_index_and_key_starts_with_the_tenant():
    for entity in (*ALL, Everything, User):
        spec = spec_of(entity)
        for index in spec.indexes:
            assert index.columns[0] == "tenant_id"
            assert index.unique or index.columns[-1] == "id"
            assert index.unique or index.query
        for key in spec.foreign_keys:
            assert key.columns[0] == "tenant_id"


def test_an_index_carries_fields_along_and_an_amount_its_asset():
    from tallystick import Loan

    (index,) = [i for i in spec_of(Loan).indexes if i.include]
    assert index.columns == ("tenant_id", "status", "oldest_due", "id")
    assert index.include == ("principal_outstanding", "charged_off_on", "asset")
    with pytest.raises(Declaration, match="each once"):
        Index("status", query="x", include=("status",))


def test_a_unique_rule_carries_fields_along_that_are_no_part_of_it():
    from tallystick import Decision

    (rule,) = [i for i in spec_of(Decision).indexes if i.include]
    assert (rule.unique, rule.fields, rule.include) == (True, ("application",), ("risk_score",))
    assert rule.columns == ("tenant_id", "application_id")
    with pytest.raises(Declaration, match="twice"):
        Unique("status", include=("status",))


def test_a_subject_is_a_reference_that_is_given_once():
    class Fixed(Entity):
        user: Annotated[Ref[User], Once()]
        name: Personal[str]
        rules = Rules(retain="identity", subject="user")

    class Written(Entity):
        user: Ref[User]
        name: Annotated[Personal[str], Retain("marketing")]
        rules = Rules(append_only(), retain="identity", subject="user")

    assert (spec_of(Fixed).subject, spec_of(Fixed).purposes) == ("user", ("identity",))
    assert spec_of(Written).purposes == ("marketing",)
    for field, named, said in (
        (Ref[User], "user", "could be changed"),
        (Annotated[str, Once()], "user", "none of its references"),
        (Annotated[Ref[User], Once()], "person", "none of its references"),
    ):

        class Loose(Entity):
            user: field  # type: ignore[valid-type]
            name: Personal[str]
            rules = Rules(retain="identity", subject=named)

        with pytest.raises(Declaration, match=said):
            spec_of(Loose)


def test_unique_rules_do_not_see_archived_rows():
    unique = {i.fields: i for i in reversed(SPEC.indexes) if i.unique}
    assert unique[("email",)].columns == ("tenant_id", "email_bidx")
    # A rotation of the index's key fills the other column, in which the rule holds as well.
    (other,) = [i for i in SPEC.indexes if i.unique and i.columns == ("tenant_id", "email_bidx_next")]
    assert (other.fields, other.where) == (("email",), unique[("email",)].where)
    assert unique[("email",)].where == "(archived_at is null)"
    assert unique[("owner", "title")].where == "(title <> '') and (archived_at is null)"
    assert SPEC.archivable
    assert spec_of(Shelf).archivable
    assert not spec_of(Sink).archivable


def test_references_and_searched_fields_have_an_index_of_their_own():
    first = {i.columns[1] for i in SPEC.indexes}
    assert {"owner_id", "ssn_bidx", "email_bidx", "mood", "data_score"} <= first


def test_enums_quote_their_values_in_the_check():
    (check,) = [c for c in SPEC.checks if c.name == "ck_everything_mood"]
    assert check.sql == "mood in ('good', 'it''s bad')"
    lengths = [c.sql for c in SPEC.checks if c.name.endswith("length")]
    assert lengths == ["char_length(title) between 2 and 80"]


def test_state_machines_are_text():
    (machine,) = SPEC.transitions
    assert machine.steps == {"good": ("it's bad",)}
    assert machine.initial == ("good",)
    assert {t.field for t in spec_of(Gate).transitions} == {"state"}


def test_queues_have_their_columns_and_nobody_reads_them():
    spec = spec_of(Job)
    names = {c.name for c in spec.columns}
    assert {"lease_token", "lease_until", "lease_by", "attempts", "done_at"} <= names
    assert not {"lease_token", "attempts"} & set(spec.read_columns)
    assert spec.queue == "created_at"


def test_append_only_has_nothing_to_update():
    class Log(Entity):
        text: str
        rules = Rules(append_only())

    assert spec_of(Log).append_only
    assert not [c for c in spec_of(Log).columns if c.updatable]
    with pytest.raises(Declaration):

        class Both(Entity):
            text: str
            rules = Rules(append_only(), Queue())

        spec_of(Both)


def test_defaults_of_an_entity():
    made = Everything(owner=Ref(UUID(int=1)), mood=Mood.GOOD, title="x y", price=Money(1, "USD"))
    assert is_uuid7(made.id)
    assert (made.tenant_id, made.version, made.created_at) == (NIL, 0, UNSAVED)
    assert made.ref.value is made
    assert "ssn=…" in repr(made)
    assert "email=…" in repr(made)
    assert "title='x y'" in str(made)
    with pytest.raises(AttributeError):
        made.title = "other"  # type: ignore[misc]


def test_the_class_answers_with_conditions_and_the_instance_with_values():
    assert repr(Everything.title) == "Everything.title"
    assert Everything.title.spec.kind is Kind.TEXT  # type: ignore[attr-defined]
    assert Everything(owner=Ref(NIL), mood=Mood.BAD, title="t", price=Money(1, "USD")).title == "t"
    assert Everything.Filter.__name__ == "EverythingFilter"
    assert Everything.table.name == "everything"
    assert Everything.table is Everything.table
    with pytest.raises(AttributeError):
        _ = Everything.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        *(("Loan", "loan"), ("LoanProduct", "loan_product"), ("KYCCase", "kyc_case"), ("Loan2Go", "loan2_go")),
        ("ABTest", "ab_test"),
        ("HTTPServer", "http_server"),
    ],
)
def test_tables_are_named_after_classes(name, table):
    assert snake(name) == table


def test_long_names_are_cut_and_stay_apart():
    long = ["x" * 30, "y" * 40]
    assert len(short("ix", *long, "a")) <= 60
    assert short("ix", *long, "a") != short("ix", *long, "b")
    assert short("ix", "a", "b") == "ix_a_b"


def test_an_entity_is_documented_by_its_first_paragraph():
    assert SPEC.doc.startswith("A thing.")
    assert SPEC.retain == "lending"
    assert SPEC.qualified == "tally.everything"
    assert SPEC.name == "Everything"
    assert SPEC.column("title").name == "title"
