"""The linter of privacy: every column has a class, and what can hold anything says why it is not sealed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tallystick.constraints import READABLE_KINDS
from tallystick.entity import Entity, spec_of
from tallystick.schema.lint import Finding
from tallystick.spec import REGISTRY_SCHEMA, Kind

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec, FieldSpec

UNCLASSIFIED = ""
_BY_KIND = {
    Kind.SECRET: "secret",
    Kind.PERSONAL: "personal",
    Kind.REF: "reference",
    Kind.UUID: "reference",
    Kind.MONEY: "money",
    Kind.CHAIN: "money",
    Kind.LEDGER: "money",
}


def class_of(spec: EntitySpec, field: FieldSpec | None) -> str:
    """The privacy class of a field; ``UNCLASSIFIED`` for what could hold anything and says nothing.

    ``secret``, ``personal`` (both sealed), ``reference`` (an id), ``money``, ``technical`` (kept by the library or the
    database), ``plain`` (numbers, dates and states), or one of ``Readable``.
    """
    if field is None or field.system or field.maintained:
        return "technical"
    if field.kind in READABLE_KINDS:
        why = spec.readable.get(field.name)
        return UNCLASSIFIED if why is None else why.name.lower()
    return _BY_KIND.get(field.kind, "plain")


def unclassified(entities: Iterable[type[Entity]]) -> list[Finding]:
    """Every column without a privacy class, and every sealed entity of persons that does not say whose it is."""
    found: list[Finding] = []
    for spec in sorted(map(spec_of, entities), key=lambda s: s.table):
        if spec.schema == REGISTRY_SCHEMA:
            continue
        for field in spec.fields.values():
            if class_of(spec, field) == UNCLASSIFIED:
                found.append(
                    Finding(
                        "privacy-class",
                        f"{spec.qualified}.{field.name}",
                        f"a {field.kind.value} that could hold personal data has no privacy class",
                        f"Declare it Personal[...] or Secret[...], or say why it may be readable: "
                        f'Rules(readable={{"{field.name}": Readable.CODE}}).',
                    )
                )
        persons = [f.name for f in spec.fields.values() if f.kind is Kind.REF and _is_user(spec, f)]
        if spec.sealed and persons and spec.subject is None and spec.table != "user_account":
            found.append(
                Finding(
                    "privacy-subject",
                    spec.qualified,
                    "seals personal data, refers to persons and does not say whose it is, so erasing cannot find it",
                    f'Say it: Rules(subject="{persons[0]}").',
                )
            )
    return found


def _is_user(spec: EntitySpec, field: FieldSpec) -> bool:
    return any(k.table == "user_account" and field.column in k.columns for k in spec.foreign_keys)
