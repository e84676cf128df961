"""What is said about statements while they run and when they have: comments, log lines, a hook. Never a value."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from tallystick.settings import Settings
    from tallystick.spec import EntitySpec

log = logging.getLogger("tallystick.statements")
_LABEL = 63 - len("tallystick ")


class StatementRun(msgspec.Struct, frozen=True, kw_only=True):
    """One statement that has ended: what it was, how long it took, what came of it.

    ``verb`` is the repository's word (find, page, add), ``sql`` the text with its placeholders and never a value,
    ``milliseconds`` include waiting for a connection, ``outcome`` is "ok" or the code of the error. ``entity`` and
    ``table`` are empty for statements of the application's own. ``request_id`` is the session's, percent-encoded where
    it is not plain.
    """

    entity: str
    table: str
    verb: str
    milliseconds: float
    rows: int
    outcome: str
    request_id: str | None
    sql: str
    started_at: datetime


OnStatement = Callable[[StatementRun], object]


class Seeing:
    """Says what runs. There is none where nothing was asked for, so that it costs nothing."""

    __slots__ = ("_broken", "_hook", "_marks", "_slow", "comments")

    def __init__(self, slow: float | None, hook: OnStatement | None, *, comments: bool) -> None:
        self.comments = comments
        self._slow = slow
        self._hook = hook
        self._broken = False
        self._marks: dict[tuple[str, str], str] = {}

    @classmethod
    def of(cls, settings: Settings, hook: OnStatement | None) -> Self | None:
        """What the settings and the application ask for, None when that is nothing."""
        comments = settings.sql_comments != "off"
        if settings.slow_statement is None and hook is None and not comments:
            return None
        return cls(settings.slow_statement, hook, comments=comments)

    def marked(self, sql: str, spec: EntitySpec | None, verb: str) -> str:
        """The statement with what runs it before it: the same for every request, so it stays prepared.

        In front, because the views of the server cut long statements off.
        """
        if not self.comments:
            return sql
        key = ("" if spec is None else spec.table, verb)
        mark = self._marks.get(key)
        if mark is None:
            mark = self._marks[key] = f"/*verb='{'.'.join(quote(word, safe='') for word in key if word)}'*/ "
        return mark + sql

    def done(
        self,
        sql: str,
        spec: EntitySpec | None,
        verb: str,
        began: float,
        *,
        rows: int,
        request: str | None,
        outcome: str = "ok",
    ) -> None:
        """A statement that began at a ``perf_counter()`` has ended."""
        took = perf_counter() - began
        slow = self._slow is not None and took >= self._slow
        if not slow and self._hook is None:
            return
        run = StatementRun(
            entity="" if spec is None else spec.name,
            table="" if spec is None else spec.qualified,
            verb=verb,
            milliseconds=round(took * 1000, 3),
            rows=rows,
            outcome=outcome,
            request_id=None if request is None else word_of(request),
            sql=sql,
            started_at=datetime.now(UTC) - timedelta(seconds=took),
        )
        if slow:
            log.log(
                logging.WARNING if self._slow else logging.INFO,
                "%s.%s took %.1f ms: %s, %d rows, request %s",
                run.table or "statement",
                verb,
                run.milliseconds,
                outcome,
                rows,
                run.request_id or "-",
                extra=msgspec.structs.asdict(run),
            )
        if self._hook is not None:
            self._tell(self._hook, run)

    def _tell(self, hook: OnStatement, run: StatementRun) -> None:
        try:
            hook(run)
        except Exception as problem:  # a hook is for looking; what it does wrong must not fail a payment
            if not self._broken:
                self._broken = True
                log.error("on_statement raised %s; this is said once.", type(problem).__name__)


def word_of(request: str) -> str:
    """A request's id as letters, digits and ``_.-~%``: nothing in it ends a comment, a literal or a line."""
    return quote(request, safe="")


def label_of(request: str) -> str:
    """What a connection is called while it works for a request; the server keeps 63 characters."""
    return f"tallystick {re.sub('%[0-9A-F]?$', '', word_of(request)[:_LABEL])}"
