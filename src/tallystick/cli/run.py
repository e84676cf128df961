"""What every command has: the common options, the application they describe, and a way to answer."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tallystick.cli import exits
from tallystick.cli.options import COMMON

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.settings import Settings


@dataclass(slots=True)
class Answer:
    """What a command answers: a document for ``--json``, how to show it to people, and an exit code."""

    document: Any
    show: Callable[[Output], None]
    code: int = exits.OK


@dataclass(slots=True)
class Run:
    """One run of one command."""

    url: str | None = None
    data_dir: Path | None = None
    app: str | None = None
    domains: str | None = None
    revisions: Path | None = None
    as_json: bool = False
    debug: bool = False
    _output: Output | None = field(default=None, repr=False)

    @property
    def output(self) -> Output:
        """Where to write for people."""
        if self._output is None:
            from tallystick.cli.output import Output

            self._output = Output(quiet=self.as_json)
        return self._output

    def settings(self) -> Settings:
        """The settings of the environment, with what the options override. Raises ``Invalid``."""
        from tallystick.errors import Invalid
        from tallystick.settings import Settings

        if self.url is not None and self.data_dir is not None:
            raise Invalid("--url and --data-dir exclude each other.", remedy="Give one of them.")
        if self.data_dir is not None:
            return Settings.load(database_url=None, admin_url=None, seal_url=None, data_dir=self.data_dir)
        return Settings.load() if self.url is None else Settings.load(database_url=self.url)

    def application(self) -> Tallystick:
        """The application that the options describe, not opened yet. Raises ``Invalid``."""
        from tallystick.cli.application import describe

        named = None if self.domains is None else [d.strip() for d in self.domains.split(",") if d.strip()]
        settings = None if self.app is not None and self.url is None and self.data_dir is None else self.settings()
        return describe(self.app, settings, named, self.revisions)

    @asynccontextmanager
    async def opened(self, *, make: bool = False) -> AsyncIterator[Tallystick]:
        """The application, open. ``make`` lets it make the embedded server's directory; else there must be one.

        Raises ``NotMigrated`` where there is no directory, because looking at a database should not make one.
        """
        tally = self.application()
        if tally.settings.embedded and not make:
            _refuse_nothing(tally.settings)
        async with tally:
            yield tally

    @asynccontextmanager
    async def administered(self, *, make: bool = False) -> AsyncIterator[tuple[Tallystick, str]]:
        """The application and the URL of whoever migrates it.

        With ``TALLYSTICK_ADMIN_URL`` nothing is opened, so a deploy step needs no other URL; else it is the embedded
        server. Raises ``NotProvisioned`` without either.
        """
        tally = self.application()
        if tally.settings.admin_url is not None:
            yield tally, tally.settings.admin_url
        elif tally.settings.embedded:
            async with self.opened(make=make) as open_tally:
                yield open_tally, open_tally.admin_url
        else:
            yield tally, tally.admin_url

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before something that cannot be undone. Raises ``Invalid`` where nobody can answer."""
        from tallystick.errors import Invalid

        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise Invalid("This needs a confirmation, and nobody can be asked.", remedy="Give --yes.")
        typer.confirm(question, abort=True, err=True)


def command(
    group: typer.Typer, name: str, **options: Any
) -> Callable[[Callable[..., Awaitable[Answer]]], Callable[..., None]]:
    """Register a coroutine function that takes a ``Run`` first as a command with the common options."""

    def register(work: Callable[..., Awaitable[Answer]]) -> Callable[..., None]:
        run = wrapped(work)
        group.command(name, **options)(run)
        return run

    return register


def wrapped(work: Callable[..., Awaitable[Answer]]) -> Callable[..., None]:
    """A plain function with the common options beside the command's own, which runs it and shows its answer."""

    @functools.wraps(work)
    def run(**given: Any) -> None:
        common = {name: given.pop(name) for name in COMMON}
        raise typer.Exit(_perform(Run(**common), functools.partial(work, **given)))

    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in COMMON.items()
    ]
    plain = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    setattr(run, "__signature__", inspect.Signature([*plain, *more]))  # noqa: B010  what Typer reads
    run.__annotations__ = {p.name: p.annotation for p in (*plain, *more)}
    return run


def _perform(run: Run, work: Callable[[Run], Awaitable[Answer]]) -> int:
    import asyncio

    async def main() -> Answer | None:
        task = asyncio.current_task()
        assert task is not None
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            task.cancel()

        # Cancelled like Ctrl-C, so that a server we started is stopped and a temporary directory removed.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        try:
            return await work(run)
        except asyncio.CancelledError:
            if not ended:
                raise
            return None

    answer = asyncio.run(main())
    if answer is None:
        return exits.TERMINATED
    try:
        if run.as_json:
            from tallystick.cli.output import write_json

            write_json(answer.document)
        else:
            answer.show(run.output)
    except BrokenPipeError:
        # Said here, because the parser of arguments takes it for a failure. Closing must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    return answer.code


def _refuse_nothing(settings: Settings) -> None:
    from tallystick.errors import NotMigrated

    place = settings.data_dir or Path.cwd() / ".tallystick"
    if not place.exists():
        raise NotMigrated(
            "No database is named, and there is no embedded server here.",
            remedy="Set DATABASE_URL, give --data-dir, or start one with `tallystick init`.",
        )
