"""Working inside a transaction that the application has open: its BEGIN and COMMIT, our savepoints.

What is a transaction in an ordinary session is a savepoint here, and a call outside ``db.transaction()`` is one of its
own. While it is open the connection acts as the application role, for the session's tenant and actor; before and after
it the connection is what the application made it: its role, its search path, the settings it had. All of that is set
for the transaction only, so that its end takes back what an accident left.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg

from tallystick.errors import Denied, Invalid, NotProvisioned, TallystickError, Unsupported
from tallystick.schema.roles import SCHEMAS, quoted
from tallystick.stores.base import Isolation
from tallystick.stores.postgres.errors import FAILURES, translate
from tallystick.stores.postgres.host import Transacting, over
from tallystick.stores.postgres.link import Link
from tallystick.stores.postgres.pool import Pool, PoolLimits
from tallystick.stores.postgres.store import PostgresStore
from tallystick.stores.postgres.unit import PostgresUnit

if TYPE_CHECKING:
    from tallystick.schema.roles import Roles

R = TypeVar("R")

# The settings are read before they are changed: a materialized query is worked out before what selects from it.
_DRESS = """
WITH before AS MATERIALIZED (SELECT ARRAY(SELECT coalesce(pg_catalog.current_setting(n, true), '')
    FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS w (n, i) ORDER BY i) AS held)
SELECT held, pg_catalog.now() AS began, pg_catalog.current_setting('session_replication_role') AS replication,
  ARRAY(SELECT pg_catalog.set_config(n, v, true)
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w (n, v)
    WHERE before.held IS NOT NULL) AS now_held
FROM before
"""
_BEGAN = "SELECT pg_catalog.now() AS began"
# Asked where nothing may fail, because an error would end the application's transaction. Of what a commit would check,
# only our constraints are named: the application's own are not ours to check early.
_WHERE = """
SELECT d.oid AS database, pg_catalog.pg_postmaster_start_time() AS started, pg_catalog.now() AS began,
  session_user::text AS login, pg_catalog.to_regrole($1) IS NOT NULL AS known,
  CASE WHEN pg_catalog.to_regrole($1) IS NULL THEN false
    ELSE pg_catalog.pg_has_role(session_user, pg_catalog.to_regrole($1)::oid,
      CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
  END AS may,
  (SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.conname), ', ')
    FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
    WHERE c.condeferred AND n.nspname = ANY ($2::text[])) AS deferred
FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
"""
_SETTINGS = ("tally.tenant", "tally.actor", "tally.reason", "tally.request", "search_path", "row_security", "role")
# Named last, temporary tables of the application's hide nothing; unnamed they would come before everything.
_SEARCH_PATH = "pg_catalog, tally, pg_temp"


class _Turn:
    """Whose turn it is on a connection: the savepoints that are open on it, innermost last."""

    __slots__ = ("__weakref__", "links", "names")

    def __init__(self) -> None:
        self.links: list[_JoinedLink] = []
        self.names = count(1)


_TURNS: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()
_PLACES: WeakKeyDictionary[PostgresStore, tuple[Any, Any]] = WeakKeyDictionary()


class JoinedStore(PostgresStore):
    """The application's store on a connection, and in a transaction, of somebody else."""

    def __init__(self, outer: PostgresStore, host: Transacting, roles: Roles, where: Any) -> None:
        super().__init__("", outer._settings)
        self.affine = self._named = False
        self.signed = outer.signed
        self.tenant_setting = outer.tenant_setting
        self.meter = outer.meter
        self.seeing = outer.seeing
        self._compilers = outer._compilers
        self.role = roles.app
        self.host = host
        self.began = where["began"]
        names = where["deferred"]
        self.recheck = f"SET CONSTRAINTS {names} IMMEDIATE; SET CONSTRAINTS {names} DEFERRED; " if names else ""
        self.pool = _JoinedPool(self)

    @classmethod
    async def join(cls, outer: PostgresStore, connection: Any, roles: Roles) -> JoinedStore:
        """Look at a connection of asyncpg or SQLAlchemy and stand in its transaction; it is left as it was.

        Raises ``Invalid`` without an open transaction or for another database, ``NotProvisioned`` for a login that may
        not act as the application role, ``Unsupported`` for other drivers and on Citus, ``Conflict`` for a
        transaction that has failed already.
        """
        if outer.engine == "citus":
            raise Unsupported("A session cannot join a transaction on Citus.", remedy="Use a session of its own.")
        host = await Transacting.of(connection)
        asked = (roles.app, list(SCHEMAS))
        where = await _asked(host.execute(_WHERE, asked))
        place = (where["database"], where["started"])
        if _PLACES.get(outer) != place:
            home = await outer.system_row(_WHERE, *asked)
            _PLACES[outer] = (home["database"], home["started"])
        if _PLACES[outer] != place:
            raise Invalid(
                "The connection leads to another database than this application's.",
                field="connection",
                remedy="Join transactions of the database that DATABASE_URL names, on the same server.",
            )
        if not where["known"]:
            raise NotProvisioned(f"The role {roles.app} does not exist.")
        if not where["may"]:
            raise NotProvisioned(
                f"The connection's login {where['login']} may not act as {roles.app}, and the tenant wall holds no "
                "other role for certain.",
                remedy=f"Run `tallystick provision --join {shlex.quote(where['login'])}`, or: GRANT {roles.app} TO "
                f"{quoted(where['login'])} WITH INHERIT FALSE, SET TRUE (PostgreSQL 15: without WITH ...).",
            )
        return cls(outer, host, roles, where)

    def unit(self, tenant: UUID, actor: str, reason: str | None = None, request: str | None = None) -> JoinedUnit:
        """A unit for one tenant and actor in the joined transaction."""
        return JoinedUnit(self, tenant, actor, reason, request)

    async def open_transaction(self, link: Link, tenant: str, words: Mapping[str, str], mode: str) -> None:
        """A savepoint, and the settings and the role of the application inside it."""
        assert isinstance(link, _JoinedLink)
        await link.open(tenant, words)


class JoinedUnit(PostgresUnit):
    """A session's hand on a joined transaction. One level is always open, and it is not ours to end."""

    __slots__ = ()
    outer = 1
    mark = "tally_s"

    @property
    def depth(self) -> int:
        """1 for the joined transaction alone, more inside savepoints."""
        return self._depth + 1

    async def begin(self, isolation: Isolation | None, *, read_only: bool) -> None:
        """Open a savepoint."""
        if isolation is not None or read_only:
            raise Invalid(
                "A session in a joined transaction cannot change its isolation or access mode.",
                remedy="Let the application begin its transaction that way.",
            )
        await super().begin(None, read_only=False)

    def _uncommitted(self, problem: Exception, link: Link) -> TallystickError:
        return translate(problem)  # whether it stands is for the application's own COMMIT to say


class _JoinedPool(Pool):
    """Hands out views of the one connection, to one task at a time."""

    def __init__(self, store: JoinedStore) -> None:
        super().__init__(_never, PoolLimits(size=1, timeout=1))
        self._store = store

    def take(self, tenant: str) -> Link | None:
        return None

    def take_any(self) -> Link | None:
        return _JoinedLink(self._store)

    async def acquire(self, tenant: str | None) -> Link:
        return _JoinedLink(self._store)

    def release(self, link: Link) -> None:
        assert isinstance(link, _JoinedLink)
        link.leave()

    async def close(self) -> None:
        return None


class _JoinedLink(Link):
    """A view of the application's connection: a transaction is a savepoint in which we are the application role."""

    __slots__ = ("_before", "_began", "_mark", "_store", "_task", "_turn")

    def __init__(self, store: JoinedStore) -> None:
        super().__init__(store.host.raw, named=False)
        self._store = store
        self._turn = _TURNS.setdefault(store.host.raw, _Turn())
        self._task = asyncio.current_task()
        self._mark: str | None = None
        self._before: list[str] = []
        self._began: datetime | None = None

    async def rows(self, sql: str, args: Sequence[Any]) -> list[Any]:
        self._mine()
        await self._store.host.keep_up()
        return await self._store.host.rows(sql, args)

    async def row(self, sql: str, args: Sequence[Any]) -> Any:
        self._mine()
        await self._store.host.keep_up()
        found = await self._store.host.rows(sql, args, most=1)
        return found[0] if found else None

    async def script(self, sql: str) -> str:
        if sql in ("COMMIT", "ROLLBACK") and self._outlived():
            await _whole(self._undo())
            if sql == "COMMIT":
                raise _elsewhere()
            return sql
        self._mine()
        if sql == "COMMIT":
            return await self._commit()
        if sql == "ROLLBACK":
            await _whole(self._undo())
            return sql
        if sql.startswith("SAVEPOINT"):
            await self._store.host.keep_up()
        return str(await self.raw.execute(sql))

    async def open(self, tenant: str, words: Mapping[str, str]) -> None:
        """A savepoint, dressed. Nothing of it stays when this raises."""
        self._store.host.check()
        turn = self._turn
        # What was never ended on this connection ended with the transaction that it was in.
        turn.links = [link for link in turn.links if link._store.began >= self._store.began]
        if turn.links and not turn.links[-1].mine():
            raise _elsewhere()
        turn.links.append(self)
        try:
            await self._store.host.keep_up()
            await _whole(self._open(tenant, words))
        except BaseException:
            await _whole(self._undo())
            self.leave()
            raise

    async def _open(self, tenant: str, words: Mapping[str, str]) -> None:
        mark = f"tally_{next(self._turn.names)}"
        await self.raw.execute(f"SAVEPOINT {mark}")
        self._mark = mark
        spoken = [words.get(name, "") for name in ("actor", "reason", "request")]
        values = [tenant, *spoken, _SEARCH_PATH, "on", self._store.role]
        found = await self._store.host.execute(_DRESS, [list(_SETTINGS), values])
        self._before, self._began = list(found["held"]), found["began"]
        if found["began"] != self._store.began:
            raise over()
        if found["replication"] != "origin":
            raise Denied(
                "The connection has switched triggers off (session_replication_role), and with them the audit log.",
                remedy="RESET session_replication_role before joining.",
            )

    async def _commit(self) -> str:
        try:
            await _whole(self._keep())
        except asyncpg.InFailedSQLTransactionError:
            await _whole(self._undo())
            return "ROLLBACK"
        except BaseException:
            await _whole(self._undo())
            raise
        return "COMMIT"

    async def _keep(self) -> None:
        """Check what a commit would, go back to what the connection was, and let the savepoint go."""
        before = dict(zip(_SETTINGS, self._before, strict=True))
        if self._store.signed and before["tally.tenant"]:
            # A signed tenant never is in the text of a statement, which others may read in pg_stat_activity.
            if self._store.recheck:
                await self.raw.execute(self._store.recheck)
            signed = before.pop("tally.tenant")
            await self._store.host.rows("SELECT pg_catalog.set_config('tally.tenant', $1, true)", (signed,))
            check = ""
        else:
            check = self._store.recheck
        back = ", ".join(
            f"pg_catalog.set_config('{name}', "
            f"pg_catalog.convert_from(pg_catalog.decode('{held.encode().hex()}', 'hex'), 'UTF8'), true)"
            for name, held in before.items()
        )
        await self.raw.execute(f"{check}SELECT {back}; RELEASE SAVEPOINT {self._mark}")
        self._mark = None

    async def _undo(self) -> None:
        """Back to the savepoint, which takes the settings and the role back too; on a dead connection nothing is.

        Nor is there anything in a later transaction, which going back to what it does not have would fail.
        """
        mark, self._mark = self._mark, None
        if mark is None or self.raw.is_closed() or not self.raw.is_in_transaction() or not self._store.host.holds():
            return
        with contextlib.suppress(asyncpg.InFailedSQLTransactionError):
            if self._began not in (None, (await self._store.host.execute(_BEGAN, ()))["began"]):
                return
        await self.raw.execute(f"ROLLBACK TO SAVEPOINT {mark}; RELEASE SAVEPOINT {mark}")

    def mine(self) -> bool:
        """Whether the running task is the one that opened this, or that one has ended."""
        return self._task is asyncio.current_task() or self._task is None or self._task.done()

    def _mine(self) -> None:
        self._store.host.check()
        if not self._turn.links or self._turn.links[-1] is not self:
            raise _elsewhere()

    def _outlived(self) -> bool:
        """Whether others began inside this and are not done; they lie behind its savepoint, and end with it."""
        links = self._turn.links
        if self not in links or links[-1] is self:
            return False
        del links[links.index(self) + 1 :]
        return True

    def leave(self) -> None:
        """Given back: the connection is free for the next savepoint."""
        if self in self._turn.links:
            self._turn.links.remove(self)

    def judge(self, problem: BaseException) -> None:
        """An error leaves the connection usable: the savepoint is undone, and it is not ours to close."""
        self.broken = self.raw.is_closed()

    def kill(self) -> None:
        self.broken = True
        self.leave()


async def _whole(work: Awaitable[R]) -> R:
    """Do all of it although the task is cancelled meanwhile, and only then let the cancellation through."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    answer = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return answer


async def _asked(question: Awaitable[Any]) -> Any:
    problem: Exception
    try:
        return await question
    except FAILURES as caught:
        problem = caught
    raise translate(problem)


async def _never() -> Link:
    raise Unsupported("A joined session opens no connections of its own.")


def _elsewhere() -> Invalid:
    return Invalid(
        "Another task, or another session that is not done, works on this connection.",
        field="connection",
        remedy="One connection does one thing at a time: await one after the other, or give each task its own.",
    )
