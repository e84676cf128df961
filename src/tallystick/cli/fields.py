"""``fields``: what tenants defined for their entities, and what it takes to make a key a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.identity.custom_fields import CustomField
    from tallystick.entity import Entity
    from tallystick.spec import EntitySpec, FieldSpec

app = typer.Typer(
    help="Custom fields of tenants: list them, and see what making one a column takes.", no_args_is_help=True
)

_PYTHON = {"integer": "int", "boolean": "bool"}


@command(app, "list")
async def list_(
    run: Run, *, tenant: Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="Only this one's.")] = None
) -> Answer:
    """The custom fields of every tenant, retired ones too."""
    async with run.opened() as tally:
        found = await _defined(tally, tenant)
    rows = [(slug, f.entity, f.name, f.type.value, _words(f)) for slug, f in found]

    def show(out: Output) -> None:
        if rows:
            out.table(("tenant", "entity", "field", "type", ""), rows)
        else:
            out.line("No tenant has custom fields.")

    names = ("tenant", "entity", "name", "type", "words")
    return Answer({"fields": [dict(zip(names, row, strict=True)) for row in rows]}, show)


@command(app, "promote")
async def promote(
    run: Run, path: Annotated[str, typer.Argument(metavar="TABLE.FIELD.NAME", help="Say, user_account.custom.region.")]
) -> Answer:
    """Whether a custom field can become a column, and what to declare for it; nothing is changed.

    Tenants must agree on what kind of value it has, and it must not be personal.
    """
    from tallystick.errors import Conflict, Invalid, NotFound

    table, _, rest = path.partition(".")
    column, _, name = rest.partition(".")
    async with run.opened() as tally:
        spec, field = _document(tally, table, column)
        found = [(slug, f) for slug, f in await _defined(tally, None) if (f.entity, f.name) == (spec.table, name)]
    if not found:
        raise NotFound(f"No tenant has such a custom field of {spec.name}.", remedy="See `tallystick fields list`.")
    if any(f.personal for _, f in found):
        raise Invalid(
            "It is personal for a tenant, and what is sealed cannot be a column.",
            field="path",
            remedy="Declare a field of your own with Search(...), which has a blind index.",
        )
    kinds = {_PYTHON.get(f.type.value, "str") for _, f in found}
    if len(kinds) > 1:
        raise Conflict(
            "Tenants have values of different kinds in it.",
            entity=spec.name,
            remedy=f"They are: {', '.join(f'{slug} {f.type.value}' for slug, f in found[:10])}.",
        )
    promoted = {**{k: t.__name__ for k, t in (field.promoted or {}).items()}, name: kinds.pop()}
    pairs = ", ".join(f'"{k}": {t}' for k, t in promoted.items())
    declaration = f"{column}: Annotated[Custom, Json(promote={{{pairs}}})] = msgspec.field(default_factory=dict)"
    index = f'Index("{column}_{name}", query="by {name}")'
    done = name in (field.promoted or {})

    def show(out: Output) -> None:
        if done:
            out.line(f"{path} is a column.")
            return
        out.line(f"{len(found)} tenants have it, with values of one kind. In {spec.name}, declare")
        out.raw(f"    {declaration}\n    {index}")
        out.line(
            'and write the revision: tallystick revision -m "promote" --branch YOURS. It fills the column in batches.'
        )

    document = {"promoted": done, "tenants": len(found), "declaration": declaration, "index": index}
    return Answer(document, show)


async def _defined(tally: Tallystick, tenant: str | None) -> list[tuple[str, CustomField]]:
    from tallystick.domains.identity.custom_fields import CustomField

    slugs = [tenant] if tenant is not None else [s async for _, s, _ in tally.tenants.all()]
    found: list[tuple[str, CustomField]] = []
    for slug in slugs:
        async with tally._upkeep(slug, actor="tallystick fields", permissions=(), reason="fields") as db:
            rows = await db[CustomField].find(order=[CustomField.entity, CustomField.name])
            found += [(slug, row) for row in rows]
    return found


def _document(tally: Tallystick, table: str, column: str) -> tuple[EntitySpec, FieldSpec]:
    from tallystick.entity import spec_of
    from tallystick.errors import NotFound

    entities: list[type[Entity]] = sorted(tally.known, key=lambda e: e.__name__)
    for spec in map(spec_of, entities):
        field = spec.fields.get(column)
        if table in (spec.table, spec.name) and field is not None and field.custom and not field.sealed:
            return spec, field
    raise NotFound(
        "No entity of this application has such a document.",
        remedy="Write TABLE.FIELD.NAME for a field that is declared Custom; --app names your entities.",
    )


def _words(field: CustomField) -> str:
    marks: list[Any] = [w for w in ("required", "personal", "retired") if getattr(field, w)]
    bounds = (field.minimum, field.maximum)
    if bounds != (None, None):
        marks.append(" to ".join("…" if b is None else f"{b:,}" for b in bounds))
    return ", ".join([*marks, *field.choices[:5], *(["…"] if field.choices[5:] else [])])
