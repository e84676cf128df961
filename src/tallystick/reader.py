"""``Reader[E]``: the verbs of a repository that read and change nothing.

They stand apart from those that write because every one of them goes the same way, from conditions by a query to rows
and from rows to entities, and whatever is to answer in the database's stead stands beside that way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from msgspec.structs import replace as changed

from tallystick.candidates import counted, existing, paged, selected
from tallystick.codec import Codec, codec_of
from tallystick.conditions import Condition, Field, Missing, Query
from tallystick.entity import Entity, spec_of
from tallystick.errors import Conflict, Invalid, NotFound
from tallystick.fields import Ref
from tallystick.filters import Filter
from tallystick.indexed import known
from tallystick.loading import load_refs
from tallystick.page import MAX_LIMIT, Offset, Page, fingerprint, read_cursor, write_cursor
from tallystick.query import check_fields, orders
from tallystick.spec import EntitySpec

if TYPE_CHECKING:
    from tallystick.plan import QueryPlan
    from tallystick.session import Session

E = TypeVar("E", bound=Entity)
FIND_LIMIT = 10_000
MAX_ROWS = 1_000_000
STREAM_BATCH = 1_000
Where = Condition | Filter | bool


class Reader(Generic[E]):
    """What can be read of one kind of entity within a session's tenant; ``Repository`` adds what changes it."""

    def __init__(self, db: Session, entity: type[E]) -> None:
        self.db = db
        self.spec: EntitySpec = spec_of(entity)
        self._codec: Codec = codec_of(self.spec)

    async def get(self, id: UUID, *, load: Sequence[Any] = ()) -> E:
        """The entity with that id. Raises ``NotFound``; archived entities are found too."""
        row = await self.db.unit.get(self._codec, id if id.__class__ is UUID else id_of(id))
        if row is None:
            raise NotFound(f"No {self.spec.name} has this id.", entity=self.spec.name, id=id_of(id))
        found = (await self._entities((row,)))[0] if self._codec.opened_at else self._codec.decode(row, None)
        if load:
            await load_refs(self.db, [found], load)
        return found

    async def get_or_none(self, id: UUID, *, load: Sequence[Any] = ()) -> E | None:
        """The entity with that id, or None."""
        row = await self.db.unit.get(self._codec, id_of(id))
        if row is None:
            return None
        found: E = (await self._entities((row,)))[0]
        if load:
            await load_refs(self.db, [found], load)
        return found

    async def one(self, *where: Where, load: Sequence[Any] = ()) -> E:
        """The only entity that matches. Raises ``NotFound`` for none and ``Conflict`` for several."""
        await known(self, where)
        found = await self._select(changed(self._query(where, None), limit=2, verb="one"))
        if not found:
            raise NotFound(
                f"No {self.spec.name} matches.", entity=self.spec.name, remedy="Use find() when absence is normal."
            )
        if len(found) > 1:
            raise Conflict(
                f"More than one {self.spec.name} matches.",
                entity=self.spec.name,
                remedy="Narrow the conditions, or use find().",
            )
        if load:
            await load_refs(self.db, found, load)
        return found[0]

    async def find(
        self, *where: Where, order: Any = None, limit: int | None = None, load: Sequence[Any] = ()
    ) -> list[E]:
        """The entities that match, oldest id first unless ``order`` says otherwise.

        Without a limit it stops at 10,000 with ``Invalid``: a list that long belongs in ``stream``.
        """
        if limit is not None and not is_within(limit, 0, MAX_ROWS):
            raise Invalid(
                f"limit should be a whole number from 0 to {MAX_ROWS}.", field="limit", remedy="Iterate with stream()."
            )
        await known(self, where)
        found = await self._select(self._query(where, order, limit=FIND_LIMIT + 1 if limit is None else limit))
        if limit is None and len(found) > FIND_LIMIT:
            raise Invalid(
                f"More than {FIND_LIMIT} {self.spec.name} match.",
                entity=self.spec.name,
                field="limit",
                remedy="Give a limit, narrow the conditions, or iterate with stream().",
            )
        if load:
            await load_refs(self.db, found, load)
        return found

    async def page(
        self, *where: Where, order: Any = None, after: str | Offset | None = None, limit: int = 20, count: bool = False
    ) -> Page[E]:
        """One page: keyset by default, so page 500 costs what page 1 does and concurrent inserts shift nothing.

        ``after`` is the ``next`` of the page before, or an ``Offset``. ``limit`` is 1 to 1,000. ``count`` also
        counts all matches. Raises ``Invalid`` for a cursor of another tenant, query or order.
        """
        if not is_within(limit, 1, MAX_LIMIT):
            raise Invalid(
                f"limit should be between 1 and {MAX_LIMIT}.", field="limit", remedy="Follow `next` for more."
            )
        await known(self, where)
        whole, db, codec = changed(self._query(where, order, limit=limit + 1), verb="page"), self.db, self._codec
        query, mark = whole, fingerprint(db.tenant_id, self.spec.table, codec.marked(whole, db.sealer))
        offset: int | None = None
        if isinstance(after, Offset):
            offset = after.rows
            if offset.__class__ is not int or not 0 <= offset < 2**63:
                raise Invalid("An offset should be a whole number from 0.", field="after")
            query = changed(query, offset=offset)
        elif after is not None:
            query = changed(query, after=read_cursor(after, mark, query.order))
        items, more = await paged(self, query, limit)
        cursor = write_cursor(mark, codec.position(items[-1], query.order, db.sealer)) if more else None
        total = await counted(self, whole) if count else None
        return Page(items=items, limit=limit, next=cursor, total=total, offset=offset)

    async def explain(
        self, *where: Where, order: Any = None, limit: int | None = None, analyze: bool = False
    ) -> QueryPlan:
        """How the database reads what ``find`` asks for, and no value; ``analyze`` runs it. Raises like ``find``."""
        from tallystick.plan import explain

        query = self._query(where, order, limit=FIND_LIMIT + 1 if limit is None else limit)
        return await explain(self, query, analyze=analyze)

    async def stream(self, *where: Where, order: Any = None, batch: int = STREAM_BATCH) -> AsyncIterator[E]:
        """Every match, a batch at a time by keyset, holding no connection and no snapshot between batches.

        Inside a repeatable-read transaction the whole stream sees one snapshot.
        """
        if not is_within(batch, 1, FIND_LIMIT):
            raise Invalid(
                f"batch should be between 1 and {FIND_LIMIT}.", field="batch", remedy="Leave it out for a thousand."
            )
        position = None
        while True:
            await known(self, where)
            query = changed(self._query(where, order, limit=batch), verb="stream", after=position)
            items = await self._select(query)
            for item in items:
                yield item
            if len(items) < batch:
                return
            position = self._codec.position(items[-1], query.order, self.db.sealer)

    async def count(self, *where: Where) -> int:
        """How many match."""
        await known(self, where)
        return await counted(self, self._query(where, ()))

    async def exists(self, *where: Where) -> bool:
        """Whether any matches."""
        await known(self, where)
        return await existing(self, self._query(where, ()))

    async def _select(self, query: Query) -> list[E]:
        return await selected(self, query)

    async def _entities(self, rows: Sequence[Any]) -> list[E]:
        """The entities of rows, with the keys that they need."""
        codec = self._codec
        return codec.decode_all(rows, await self.db.sealer.opener(codec, rows) if codec.opened_at else None)

    def _query(self, where: tuple[Any, ...], order: Any, *, limit: int | None = None, archived: bool = False) -> Query:
        spec = self.spec
        found: list[Condition] = []
        hide = spec.archivable and not archived
        for one in where:
            if isinstance(one, Filter):
                found.extend(one.conditions())
            elif isinstance(one, Condition):
                hide = check_fields(spec, one) and hide
                found.append(one)
            else:
                raise Invalid(
                    "A filter is not a condition.",
                    entity=spec.name,
                    remedy=f"Write conditions on the class: {spec.name}.id == id, or pass a {spec.name}.Filter.",
                )
        if hide:
            found.append(Missing(Field(spec, spec.fields["archived_at"])))
        unordered = isinstance(order, tuple) and not order
        return self._codec.query(found, () if unordered else orders(spec, order), self.db.sealer, limit)

    def _by_id(self, id: UUID) -> Query:
        return self._codec.query([Field(self.spec, self.spec.fields["id"]) == id], (), self.db.sealer)


def id_of(value: Any) -> UUID:
    """An id that was given as one or as a reference. Raises ``Invalid`` for anything else."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, Ref):
        return value.id
    raise Invalid("An id should be a UUID.", field="id", remedy="Parse text with tallystick.ids.parse_id().")


def is_within(number: Any, low: int, high: int) -> bool:
    """Whether that is a whole number from ``low`` to ``high``; True is none."""
    return number.__class__ is int and low <= number <= high
