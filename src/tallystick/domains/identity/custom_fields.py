"""Custom fields: what a tenant adds to the entities whose application lets it.

A field is data of the tenant, a row. Its row has a version and a history as every row has, so what was asked of a value
when it was stored can be told later.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec

from tallystick.custom import LONGEST, NAME, fits_promoted
from tallystick.domains.guarded import Guarded, alter, put
from tallystick.entity import Entity, spec_of
from tallystick.errors import Invalid, QuotaExceeded
from tallystick.fields import Length, Once
from tallystick.rules import Check, Readable, Rules, Unique, kept
from tallystick.spec import EntitySpec

MOST_FIELDS = 100
"""The most custom fields one entity of a tenant has, retired ones too."""
_MOST_CHOICES = 200
_LONGEST_CHOICE = 200
_BIGINT = 2**63
PERMISSION = "custom_fields.define"


class CustomFieldType(StrEnum):
    """What values a custom field has. Dates and decimals are written as text ("2026-01-31", "12.50")."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    CHOICE = "choice"


class CustomField(Entity):
    """A field that a tenant adds to an entity: its type, whether it is required, and what values it takes.

    ``entity`` is the table's name. ``minimum`` and ``maximum`` bound numbers, and the length of a text in characters.
    A ``personal`` field's values are sealed under the person's key.
    """

    entity: Annotated[str, Length(59, min=1), Once()]
    name: Annotated[str, Length(40, min=1), Once()]
    type: Annotated[CustomFieldType, Once()]
    personal: Annotated[bool, Once()] = False
    required: bool = False
    retired: bool = False
    choices: list[str] = msgspec.field(default_factory=list)
    minimum: int | None = None
    maximum: int | None = None

    rules = Rules(
        Unique("entity", "name"),
        Check("name", "name ~ '^[a-z][a-z0-9_]*$'"),
        Check("bounds", "minimum is null or maximum is null or minimum <= maximum"),
        Check("choices", "(type = 'choice') = (choices <> '[]'::jsonb)"),
        kept(),
        retain="operations",
        readable={"entity": Readable.CODE, "name": Readable.TERMS, "choices": Readable.TERMS},
    )


class CustomFields(Guarded[CustomField]):
    """The tenant's custom fields; to define them takes the permission "custom_fields.define"."""

    permission = PERMISSION
    instead = "custom_fields.define(), change() and retire()"

    async def defined(self, entity: type[Entity]) -> list[CustomField]:
        """The fields of an entity that values may be given for now, by name."""
        spec = self._spec(entity)
        rows = await self.find(CustomField.entity == spec.table, order=CustomField.name)
        return [row for row in rows if not row.retired]

    async def define(
        self,
        entity: type[Entity],
        name: str,
        type: CustomFieldType,
        *,
        required: bool = False,
        personal: bool = False,
        choices: Iterable[str] = (),
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> CustomField:
        """Add a field to an entity of this tenant.

        Rows that are there need no value until their document is written again. Of callers that race one defines it
        and the others get ``Duplicate``. Raises ``RoleMissing``, ``Invalid``, and ``QuotaExceeded`` beyond 100 fields.
        """
        await self.db.require(PERMISSION)
        spec = self._spec(entity)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _wrong("A custom field has no usable name.", "name", "Use lower-case letters, digits, underscores.")
        if not isinstance(type, CustomFieldType):
            raise _wrong("A custom field has a CustomFieldType.", "type", "Write CustomFieldType.TEXT.")
        if not any(spec.fields[n].sealed == personal for n in spec.custom):
            kind = "PersonalCustom | None = None" if personal else "Custom"
            raise _wrong(f"{spec.name} has no document for such values.", "personal", f"Declare custom_x: {kind}.")
        if not fits_promoted([spec.fields[n] for n in spec.custom], name, type.value):
            raise _wrong(f"{spec.name} has a column {name} of another type.", "type", "Take the type it was given.")
        made = CustomField(
            entity=spec.table,
            name=name,
            type=type,
            personal=personal,
            required=required,
            choices=_choices(type, choices),
            minimum=minimum,
            maximum=maximum,
        )
        _check(made)
        if await self.count(CustomField.entity == spec.table) >= MOST_FIELDS:
            raise QuotaExceeded(f"{spec.name} has {MOST_FIELDS} custom fields of this tenant, the most there can be.")
        return await put(self, made)

    async def change(
        self,
        field: CustomField,
        *,
        required: bool | None = None,
        choices: Iterable[str] | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> CustomField:
        """Ask something else of values to come; what is stored stays. Name, type and secrecy never change.

        Bounds are replaced together: one that is not given is none. Raises ``StaleVersion``, ``RoleMissing``,
        ``Invalid``.
        """
        await self.db.require(PERMISSION)
        wanted = field.choices if choices is None else _choices(field.type, choices)
        demand = field.required if required is None else required
        _check(
            CustomField(
                entity=field.entity,
                name=field.name,
                type=field.type,
                required=demand,
                choices=wanted,
                minimum=minimum,
                maximum=maximum,
            )
        )
        return await alter(self, field, required=demand, choices=wanted, minimum=minimum, maximum=maximum)

    async def retire(self, field: CustomField) -> CustomField:
        """Take no more values for it; those that are stored stay, and may stay when their document is written."""
        await self.db.require(PERMISSION)
        return await alter(self, field, retired=True)

    def _spec(self, entity: type[Entity]) -> EntitySpec:
        spec = spec_of(self.db.actual(entity))
        if spec.cls not in self.db.entities or not spec.custom:
            raise Invalid(
                f"{spec.name} takes no custom fields here.",
                entity=spec.name,
                field="entity",
                remedy="Declare custom: Custom = msgspec.field(default_factory=dict) on it, or on its extension.",
            )
        return spec


def _choices(type: CustomFieldType, given: Iterable[str]) -> list[str]:
    found = [] if isinstance(given, str) else list(given)
    fine = all(isinstance(c, str) and 0 < len(c) <= _LONGEST_CHOICE and c.isprintable() for c in found)
    if not fine or len(found) > _MOST_CHOICES or len(set(found)) < len(found):
        raise _wrong(
            "Choices are up to 200 different texts of up to 200 characters.", "choices", 'Write choices=["north"].'
        )
    if bool(found) != (type is CustomFieldType.CHOICE):
        raise _wrong("A choice has choices, and nothing else has.", "choices", "Give them to a CustomFieldType.CHOICE.")
    return found


def _check(made: CustomField) -> None:
    bounds = [b for b in (made.minimum, made.maximum) if b is not None]
    numbers = (CustomFieldType.INTEGER, CustomFieldType.DECIMAL)
    if any(b.__class__ is not int or not -_BIGINT <= b < _BIGINT for b in bounds) or sorted(bounds) != bounds:
        raise _wrong("Bounds are whole numbers, the minimum first.", "minimum", "Write minimum=0, maximum=10.")
    text = made.type is CustomFieldType.TEXT and all(0 <= b <= LONGEST for b in bounds)
    if bounds and made.type not in numbers and not text:
        raise _wrong(
            "Only numbers and texts have bounds, a text from 0 to 10,000 characters.", "minimum", "Leave them out."
        )


def _wrong(problem: str, field: str, remedy: str) -> Invalid:
    return Invalid(problem, entity="CustomField", field=field, remedy=remedy)
