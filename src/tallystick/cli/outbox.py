"""``outbox``: what waits, what was given up, and what an operator decides about it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.session import Session

ACTOR = "cli:outbox"
app = typer.Typer(help="Messages on their way: what waits, dead letters, retries.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="One tenant only; all by default.")]
One = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose message it is.")]
Message = Annotated[str, typer.Argument(help="The message's id, as `outbox dead` shows it.")]
_COLUMNS = ("tenant", "topic", "waiting", "later", "held", "dead", "stuck", "oldest s")


async def _sessions(tally: Tallystick, slug: str | None) -> AsyncIterator[Session]:
    if slug is None:
        async for db in tally.system(actor=ACTOR):
            yield db
        return
    async with tally.session(slug, actor=ACTOR, permissions=("*",)) as db:
        yield db


@command(app, "status")
async def status(
    run: Run,
    *,
    tenant: Tenant = None,
    lag: Annotated[
        int | None, typer.Option("--lag", metavar="SECONDS", help="It is a finding when something waits for longer.")
    ] = None,
) -> Answer:
    """Show what is not over, by tenant and topic; exit code 1 where there are dead letters or it lags."""
    from msgspec import to_builtins

    rows: list[dict[str, Any]] = []
    async with run.opened() as tally:
        async for db in _sessions(tally, tenant):
            rows += [{"tenant": db.tenant.slug, **to_builtins(one)} for one in await db.outbox.status()]
    findings = any(r["dead"] or r["stuck"] or (lag is not None and r["oldest"] > lag) for r in rows)

    def show(out: Output) -> None:
        if rows:
            out.table(_COLUMNS, [tuple(r.values()) for r in rows], right=_COLUMNS[2:])
        else:
            out.line("Nothing waits.")

    return Answer({"topics": rows}, show, int(findings))


@command(app, "dead")
async def dead(
    run: Run,
    *,
    tenant: Tenant = None,
    topic: Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="One topic only.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many of a tenant.", min=1)] = 100,
) -> Answer:
    """List dead letters, without what they say: the error's kind, how often it was tried, whether its key is stuck."""
    rows: list[dict[str, Any]] = []
    async with run.opened() as tally:
        async for db in _sessions(tally, tenant):
            for one in await db.outbox.dead(topic, limit=limit):
                shown = {"id": one.id, "topic": one.topic, "key": one.key, "state": one.state.value}
                rows.append({"tenant": db.tenant.slug, **shown, "error": one.error, "attempts": one.tries})

    def show(out: Output) -> None:
        if rows:
            columns = ("tenant", "id", "topic", "key", "state", "error", "attempts")
            out.table(columns, [tuple(r.values()) for r in rows], right=("attempts",), flexible=("key", "topic"))
        else:
            out.line("No dead letters.")

    return Answer({"dead": rows}, show)


@command(app, "retry")
async def retry(run: Run, message: Message, *, tenant: One) -> Answer:
    """Deliver a dead letter again, with all its attempts."""
    from tallystick.ids import parse_id

    async with run.opened() as tally, tally.session(tenant, actor=ACTOR, permissions=("*",)) as db:
        found = await db.outbox.retry(parse_id(message))
    return Answer({"id": found.id, "topic": found.topic}, lambda out: out.line(f"Waits again on {found.topic}."))


@command(app, "discard")
async def discard(
    run: Run,
    message: Message,
    *,
    tenant: One,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the audit log.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> Answer:
    """Give a message up for good; its key goes on."""
    from tallystick.ids import parse_id

    run.confirm("Give this message up, for good?", yes)
    async with run.opened() as tally, tally.session(tenant, actor=ACTOR, permissions=("*",)) as db:
        found = await db.outbox.discard(parse_id(message), reason)
    return Answer({"id": found.id, "topic": found.topic}, lambda out: out.line(f"Given up on {found.topic}."))


@command(app, "purge")
async def purge(
    run: Run,
    *,
    tenant: Tenant = None,
    days: Annotated[int, typer.Option("--days", metavar="N", help="Keep what is over for so many days.", min=0)] = 7,
) -> Answer:
    """Remove messages that are over; with each goes the memory of its `dedupe`."""
    gone: dict[str, int] = {}
    async with run.opened() as tally:
        async for db in _sessions(tally, tenant):
            gone[db.tenant.slug] = await db.outbox.purge(older_than=timedelta(days=days))
    return Answer({"removed": gone}, lambda out: out.line(f"Removed {sum(gone.values()):,} messages."))
