"""PostgreSQL as a store: connecting, the pool, and how a transaction is opened for a tenant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import asyncpg

from tallystick.errors import TallystickError, TlsFailed, Unavailable
from tallystick.stores.postgres.compile import Compiler
from tallystick.stores.postgres.errors import FAILURES, login, translate
from tallystick.stores.postgres.link import Link
from tallystick.stores.postgres.meter import Meter
from tallystick.stores.postgres.pool import Pool, PoolLimits
from tallystick.stores.postgres.pooler import refuse_transaction_pooler
from tallystick.stores.postgres.seeing import Seeing, label_of, word_of
from tallystick.stores.postgres.unit import PostgresUnit

if TYPE_CHECKING:
    from tallystick.codec import Codec
    from tallystick.schema.budget import Budget
    from tallystick.settings import Settings
    from tallystick.stores.postgres.seeing import OnStatement

R = TypeVar("R")
log = logging.getLogger("tallystick.pool")


class PostgresStore:
    """One database reached as the application role.

    ``affine`` is whether a pooled connection may keep a tenant between uses: not behind a transaction pooler, where
    the server behind a connection changes, and not on Citus, whose workers never hear of session settings.
    ``tenant_setting`` makes what ``tally.tenant`` is set to on a connection, of the application's own too: the id, or
    on a hardened database what ``sign`` makes of it.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        settings: Settings,
        *,
        verify: bool = False,
        recover: Callable[[], Awaitable[None]] | None = None,
        sign: Callable[[UUID], str] | None = None,
        on_statement: OnStatement | None = None,
    ) -> None:
        self.engine = settings.engine
        self.affine = settings.engine == "plain" and settings.pooler == "session"
        self.signed = sign is not None
        self.tenant_setting: Callable[[UUID], str] = sign or str
        self._named = settings.pooler == "session"
        self._url = url
        self._recover = recover
        self._settings = settings
        self._compilers: dict[type, Compiler] = {}
        limits = PoolLimits(
            size=settings.pool_max,
            timeout=settings.pool_timeout,
            keep=settings.pool_min,
            idle_lifetime=settings.idle_lifetime,
            max_lifetime=settings.max_lifetime,
            strict=settings.profile == "serverless",
        )
        self.pool = Pool(self._connect, limits, verify=verify)
        self.meter = Meter()
        self.seeing = Seeing.of(settings, on_statement)
        self.labels = settings.sql_comments == "request"

    def unit(self, tenant: UUID, actor: str, reason: str | None = None, request: str | None = None) -> PostgresUnit:
        """A unit for one tenant and actor, and why it acts; opening it costs nothing."""
        return PostgresUnit(self, tenant, actor, reason, request)

    def compiler(self, codec: Codec) -> Compiler:
        """The compiled statements of an entity."""
        found = self._compilers.get(codec.spec.cls)
        if found is None:
            found = self._compilers[codec.spec.cls] = Compiler(codec)
        return found

    async def open_transaction(self, link: Link, tenant: str, words: Mapping[str, str], mode: str) -> None:
        """BEGIN with the tenant, and the actor, reason and request as far as they are given.

        One message where the engine allows it, at the cost of BEGIN alone. The tenant is the text of a UUID object;
        the others are free text and travel as hex, because a quoted one was shown to switch the tenant. A signed
        tenant never is in the text of a statement, which other connections of the same role may read in
        pg_stat_activity: the session carries it already, or it travels as a bind.
        """
        if not self._named:
            # A pooler takes no startup settings, so the limit is each transaction's.
            mode += f"; SET LOCAL statement_timeout = {_milliseconds(self._settings)}"
        begin, label = "BEGIN", None
        if self.seeing is not None and self.seeing.comments and "request" in words:
            begin = f"/*request='{word_of(words['request'])}'*/ BEGIN"
            label = f"set_config('application_name', '{label_of(words['request'])}', true)"
        if self.engine == "citus":
            await link.script(f"{begin}{mode}" + (f"; SELECT {label}" if label else ""))
            await link.row("SELECT tally.set_tenant($1, $2)", (tenant, words["actor"]))
            if len(words) > 1:
                await link.row("SELECT tally.set_cause($1, $2)", (words.get("reason"), words.get("request")))
            return
        who = ", ".join(
            f"set_config('tally.{name}', convert_from(decode('{word.encode().hex()}', 'hex'), 'UTF8'), true)"
            for name, word in words.items()
        )
        if label:
            who += f", {label}"
        if not self.signed:
            await link.script(f"{begin}{mode}; SELECT set_config('tally.tenant', '{tenant}', true), {who}")
            return
        await link.script(f"{begin}{mode}; SELECT {who}")
        if link.tenant != tenant:
            await link.row("SELECT set_config('tally.tenant', $1, true)", (tenant,))

    async def system_row(self, sql: str, *args: Any) -> Any:
        """One row of a statement that touches no tenant table (the registry's functions, the schema version)."""
        rows = await self.system_rows(sql, *args)
        return rows[0] if rows else None

    async def system_rows(self, sql: str, *args: Any) -> list[Any]:
        """Rows of a statement that touches no tenant table."""
        return await self.ask(lambda link: link.rows(sql, args))

    async def ask(self, question: Callable[[Link], Awaitable[R]]) -> R:
        """What ``question(link)`` answers on a link of no tenant, which is trusted afterwards only if it went well.

        Behind a transaction pooler it runs in a transaction: a statement travels in two messages, and between them
        another server could answer.
        """
        problem: Exception
        try:
            link = await self.pool.acquire(None)
            try:
                if not self._named:
                    await link.script("BEGIN")
                answer = await question(link)
                if not self._named:
                    await link.script("COMMIT")
                return answer
            except BaseException as caught:
                link.judge(caught)
                raise
            finally:
                self.pool.release(link)
        except FAILURES as caught:
            problem = caught
        raise translate(problem)

    async def check_pooler(self) -> None:
        """Raise ``Invalid`` when the server turns out to be behind a transaction pooler that no setting names."""
        if self._named:
            await self.ask(lambda link: refuse_transaction_pooler(link, self._dial))

    async def budget(self) -> Budget:
        """How the connections that this application's processes may open fit in what the server has."""
        from tallystick.schema.budget import Budget, question

        found = await self.ask(lambda link: link.row(question(), ()))
        return Budget.of(self._settings, found)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    async def _connect(self) -> Link:
        """A new connection. A server of our own that died is started again; another is given time to come back."""
        if self._recover is not None:
            try:
                return await self._dial()
            except Unavailable:
                await self._recover()
            return await self._dial()
        for left in range(self._settings.retry_attempts, 0, -1):
            try:
                return await self._dial()
            except TlsFailed:
                raise
            except Unavailable as problem:
                log.warning("Connecting failed, %d more attempts: %s", left, problem.code)
            await asyncio.sleep(self._settings.retry_delay)
        return await self._dial()

    async def _dial(self) -> Link:
        from tallystick.settings import connect_args

        settings = self._settings
        options: dict[str, str] = {}
        if self._named:
            options = {"application_name": "tallystick", "jit": "off"}
            if settings.statement_timeout:
                options["statement_timeout"] = str(_milliseconds(settings))
        failure: TallystickError
        try:
            raw = await asyncpg.connect(
                **connect_args(self._url if isinstance(self._url, str) else self._url()),
                timeout=cast("int", settings.connect_timeout),
                server_settings=options,
                statement_cache_size=0 if not self._named else 100,
            )
        except FAILURES as problem:
            failure = login(problem)
        else:
            return Link(raw, named=self._named)
        raise failure


def _milliseconds(settings: Settings) -> int:
    """The statement timeout as PostgreSQL takes it; 0 is none."""
    return int(settings.statement_timeout * 1000)
