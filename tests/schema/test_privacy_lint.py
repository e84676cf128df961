"""The linter of privacy: the built-in entities pass, and a column without a class does not."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from tallystick import Entity, Personal, Ref, Rules, User
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.entity import spec_of
from tallystick.errors import Declaration
from tallystick.fields import Length
from tallystick.rules import Readable
from tallystick.schema.privacy_lint import UNCLASSIFIED, class_of, unclassified


class Careless(Entity):
    """Texts and documents of no class."""

    person: Ref[User]
    note: str
    code: Annotated[str, Length(20)]
    story: Personal[str]
    more: dict[str, Any]
    scan: bytes
    count: int = 0

    rules = Rules(readable={"code": Readable.CODE})


def test_every_column_of_the_built_in_entities_has_a_class():
    assert [str(f) for f in unclassified(entities_of(DOMAINS))] == []
    for entity in entities_of(DOMAINS):
        spec = spec_of(entity)
        assert all(class_of(spec, f) != UNCLASSIFIED for f in spec.fields.values())


def test_a_column_without_a_class_is_refused_with_its_remedy():
    found = unclassified([Careless])
    assert [(f.code, f.object) for f in found] == [
        ("privacy-class", "tally.careless.note"),
        ("privacy-class", "tally.careless.more"),
        ("privacy-class", "tally.careless.scan"),
        ("privacy-subject", "tally.careless"),
    ]
    assert 'Rules(readable={"note"' in found[0].remedy
    spec = spec_of(Careless)
    assert [class_of(spec, spec.fields[n]) for n in ("id", "person", "code", "story", "count")] == [
        "technical",
        "reference",
        "code",
        "personal",
        "plain",
    ]


@pytest.mark.parametrize("given", [{"nothing": Readable.CODE}, {"count": Readable.CODE}, {"note": "because"}])
def test_reasons_are_given_for_what_has_one_to_give(given: Any):
    with pytest.raises(Declaration):

        class Odd(Entity):
            note: str
            count: int = 0

            rules = Rules(readable=given)

        spec_of(Odd)
