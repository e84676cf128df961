"""``audit reconcile``: rows against the log, for one tenant or all, so that it can be stopped and gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.audit import TAMPERED
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.audit.reconcile import Discrepancy, ReconcileReport
    from tallystick.cli.output import Output

_SHOWN = 50
_FRESH: dict[str, Any] = {"after": None, "done": False, "rows": 0, "derived": 0, "expired": 0}
_MEANS = {
    "edited": "is not what its last entry says",
    "added": "is in the table and not in the log",
    "back": "is there, and the log says that it was removed",
    "removed": "is gone, and the log does not say so",
    "between": "was edited between two of its entries",
    "derived": "is not what the rows that it is worked out of make of it",
    "rewritten": "has a last entry that is not what was sealed",
}


async def reconcile(
    run: Run,
    *,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="SLUG", help="Whose rows; all tenants without it.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="TABLE", help="Only this table, as the log calls it.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", help="Keep the position in this file, and go on from it."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hold each entry against the one before it, too; reads the whole log.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="How many rows to compare at once.")] = 1_000,
) -> Answer:
    """Compare rows with the last image that the log has of each: what was changed past the capture?

    It needs the application's role only, and may run beside writers. Exit code 8: a row is not what the log says.
    """
    names = {"tenants": tenant, "tables": table, "deep": deep}
    kept = _kept(resume, names)
    async with run.opened() as tally:
        slugs = tenant or [slug async for _, slug, _ in tally.tenants.all()]
        with run.output.progress("Comparing rows"):
            for slug in slugs:
                state = kept["tenants"].setdefault(slug, dict(_FRESH))
                while not state["done"]:
                    report = await tally.audit.reconcile(
                        slug, tables=table, deep=deep, after=state["after"], batches=20, batch=batch
                    )
                    _add(kept, slug, state, report)
                    _write(resume, kept)
    if resume is not None:
        resume.unlink(missing_ok=True)
    document = _document(kept)
    return Answer(document, lambda out: _show(out, document), TAMPERED if document["findings"] else exits.OK)


def _add(kept: dict[str, Any], slug: str, state: dict[str, Any], report: ReconcileReport) -> None:
    state["after"], state["done"] = report.next, report.next is None
    state["rows"] += report.rows
    state["derived"] += report.derived
    state["expired"] += report.expired
    kept["findings"] += [_finding(slug, one) for one in report.findings]
    kept["unknown"] = sorted({*kept["unknown"], *report.unknown})
    kept["seconds"] += report.seconds


def _finding(slug: str, one: Discrepancy) -> dict[str, Any]:
    return {
        "tenant": slug,
        "table": one.table,
        "key": one.key,
        "kind": one.kind,
        "columns": list(one.columns),
        "seq": one.seq,
    }


def _document(kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "ok": not kept["findings"],
        "tenants": len(kept["tenants"]),
        "rows": sum(state["rows"] for state in kept["tenants"].values()),
        "derived": sum(state["derived"] for state in kept["tenants"].values()),
        "expired": sum(state["expired"] for state in kept["tenants"].values()),
        "unknown": kept["unknown"],
        "findings": kept["findings"],
        "seconds": round(kept["seconds"], 3),
    }


def _show(out: Output, document: dict[str, Any]) -> None:
    for one in document["findings"][:_SHOWN]:
        columns = f" ({', '.join(one['columns'])})" if one["columns"] else ""
        out.line(f"{one['kind'].upper()}  {one['tenant']}  {one['table']} {one['key']}", "bold red")
        out.line(f"  The row {_MEANS[one['kind']]}{columns}.")
    if len(document["findings"]) > _SHOWN:
        out.line(f"and {len(document['findings']) - _SHOWN:,} more; --json has them all.")
    if document["unknown"]:
        out.line(f"Not looked at, because this application does not know them: {', '.join(document['unknown'])}.")
    if document["expired"]:
        out.line(f"Of {document['expired']:,} rows the last image was dropped by policy; nothing can be said of them.")
    told = f"{document['rows']:,} rows of {document['tenants']:,} tenants compared"
    told += f", {document['derived']:,} worked out again, in {document['seconds']:.1f} s"
    if document["findings"]:
        out.line(f"{told}: {len(document['findings']):,} are not what they should be.", "bold red")
    else:
        out.line(f"{told}: each is what it should be.", "green")


def _kept(path: Path | None, names: dict[str, Any]) -> dict[str, Any]:
    """Where an earlier run stopped, or a start. Raises ``Invalid`` for a file of something else."""
    from tallystick.errors import Invalid

    fresh: dict[str, Any] = {"of": names, "tenants": {}, "findings": [], "unknown": [], "seconds": 0.0}
    if path is None or not path.exists():
        return fresh
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.keys() != fresh.keys() or found["of"] != names:
        raise Invalid(
            "The file of --resume is not of a comparison like this one.",
            field="resume",
            remedy="Name the same tenants and tables as then, or another file.",
        )
    return found


def _write(path: Path | None, kept: dict[str, Any]) -> None:
    """The position, replaced as a whole, so that a run that is killed leaves the one before."""
    from tallystick.errors import Unavailable

    if path is None:
        return
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(json.dumps(kept))
        os.replace(new, path)
        return
    except OSError as problem:
        reason = os.strerror(problem.errno or 0)
    raise Unavailable(f"The position cannot be kept in {path} ({reason}).", remedy="Name a file that can be written.")
