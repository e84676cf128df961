"""``schema``: what the database should be, and whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.entity import Entity
    from tallystick.spec import EntitySpec, FieldSpec

app = typer.Typer(help="The schema: declared, and live.", no_args_is_help=True)


@command(app, "lint")
async def lint(run: Run) -> Answer:
    """Judge the live database: holes in the tenant wall, guards that are off, and what the declarations miss.

    A text, document or bytes must be sealed, or say why it may be readable.

    Exit code 1: there are findings.
    """
    from tallystick.extension import living
    from tallystick.schema.connect import connect
    from tallystick.schema.ddl import checked_engine
    from tallystick.schema.lint import lint as work
    from tallystick.schema.privacy_lint import unclassified
    from tallystick.settings import connect_args

    async with run.administered() as (tally, url):
        entities = living((*_built_in(tally.domains), *tally.entities))
        connection = await connect(connect_args(url, name="TALLYSTICK_ADMIN_URL"))
        try:
            with run.output.progress("Looking"):
                found = await work(connection, tally.settings.roles, entities, checked_engine(tally.settings.engine))
                found += unclassified(entities)
        finally:
            await connection.close()
    findings = [{"code": f.code, "object": f.object, "problem": f.problem, "remedy": f.remedy} for f in found]

    def show(out: Output) -> None:
        if not findings:
            out.line("No findings.")
            return
        for one in findings:
            out.line(f"{one['object']}: {one['problem']} ({one['code']})", "bold")
            out.line(f"  {one['remedy']}")
        out.line(f"{len(findings)} findings.")

    return Answer({"findings": findings}, show, exits.FINDINGS if findings else exits.OK)


@command(app, "show")
async def show(
    run: Run,
    entity: Annotated[str | None, typer.Argument(help="An entity or its table; all without it.")] = None,
    ddl: Annotated[bool, typer.Option("--ddl", help="As SQL.")] = False,
) -> Answer:
    """What the entities declare: table, columns and their privacy, indexes with the query each serves, rules.

    It reads the declarations and no database.
    """
    from tallystick.entity import spec_of
    from tallystick.extension import living

    tally = run.application()
    entities = _chosen([*living((*_built_in(tally.domains), *tally.entities))], entity)
    if ddl:
        from tallystick.schema import ddl as writer
        from tallystick.schema.model import model_of

        models = [model_of(spec_of(e)) for e in entities]
        text = writer.script(writer.create(models, tally.settings.roles, writer.checked_engine(tally.settings.engine)))
        return Answer({"ddl": text}, lambda out: out.raw(text))
    documents = [_document(spec_of(e)) for e in entities]

    def view(out: Output) -> None:
        for document in documents:
            _show(out, document)

    return Answer({"entities": documents}, view)


def _built_in(domains: tuple[str, ...]) -> tuple[type[Entity], ...]:
    from tallystick.domains.catalog import entities_of

    return entities_of(domains)


def _chosen(entities: list[type[Entity]], name: str | None) -> list[type[Entity]]:
    from tallystick.entity import spec_of
    from tallystick.errors import NotFound

    if name is None:
        return entities
    found = [e for e in entities if name.lower() in (e.__name__.lower(), spec_of(e).table)]
    if not found:
        raise NotFound(
            "There is no entity or table of that name.",
            remedy=f"Entities are: {', '.join(sorted(e.__name__ for e in entities))}; --app adds your own.",
        )
    return found


def _document(spec: EntitySpec) -> dict[str, Any]:
    by_column = {c.name: f for f in spec.fields.values() for c in f.columns}
    rules = [f"check {c.name}: {c.sql}" for c in spec.checks]
    rules += [f"{f.name}: refers to {f.schema}.{f.table}" for f in spec.foreign_keys]
    for machine in spec.transitions:
        rules.append(f"{machine.field} starts as {' or '.join(machine.initial)}")
        rules += [f"{machine.field}: {a} -> {', '.join(to)}" for a, to in machine.steps.items()]
    if spec.append_only:
        rules.append("append-only: rows are written once")
    if spec.queue is not None:
        rules.append(f"queue: claimed by {spec.queue}, oldest first")
    return {
        "entity": spec.name,
        "table": spec.qualified,
        "doc": spec.doc,
        "retention": spec.retain,
        "columns": [
            {
                "name": c.name,
                "type": c.sql,
                "nullable": c.nullable,
                "privacy": _privacy(spec, by_column.get(c.name), c.name),
            }
            for c in spec.columns
        ],
        "indexes": [
            {"name": i.name, "columns": i.columns, "unique": i.unique, "where": i.where, "serves": i.query}
            for i in spec.indexes
        ],
        "rules": rules,
    }


def _privacy(spec: EntitySpec, field: FieldSpec | None, column: str) -> str:
    """How a column keeps what is personal."""
    from tallystick.schema.privacy_lint import class_of

    if field is None or not field.sealed:
        return class_of(spec, field)
    if column in {n for b in field.blind for n in (b.index_column, b.next_column)}:
        return "blind index"
    if column == field.mask_column:
        return "mask, encrypted"
    return "secret, sealed" if field.kind == "secret" else "personal, encrypted"


def _show(out: Output, document: dict[str, Any]) -> None:
    out.line(f"{document['entity']}  ({document['table']})", "bold")
    out.line(document["doc"])
    if document["retention"]:
        out.line(f"Retention class: {document['retention']}")
    columns = [
        (c["name"], c["type"], "null" if c["nullable"] else "", "" if c["privacy"] == "plain" else c["privacy"])
        for c in document["columns"]
    ]
    out.table(("column", "type", "", "privacy"), columns, flexible=("type", "privacy"))
    indexes = [(i["name"], ", ".join(i["columns"]), i["serves"] or "a unique rule") for i in document["indexes"]]
    if indexes:
        out.table(("index", "columns", "serves"), indexes, flexible=("columns", "serves", "index"))
    for rule in document["rules"]:
        out.line(f"  {rule}")
    out.line()
