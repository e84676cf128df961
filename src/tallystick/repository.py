"""``Repository[E]``: the verbs every entity has; those that only read are in ``reader``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, get_args, get_origin
from uuid import UUID

from msgspec.structs import replace as changed

from tallystick.candidates import certain
from tallystick.claims import Claimed
from tallystick.conditions import Lock, Order, Query
from tallystick.custom import adapted, judged
from tallystick.entity import Entity, spec_of, with_fields
from tallystick.errors import Invalid, NotFound, StaleVersion, Unsupported
from tallystick.extension import is_plain
from tallystick.ids import uuid7
from tallystick.indexed import known, upserted, written
from tallystick.page import MAX_LIMIT
from tallystick.query import unique_rule
from tallystick.reader import Reader, Where, id_of, is_within
from tallystick.spec import Kind
from tallystick.values import elsewhere

if TYPE_CHECKING:
    from tallystick.audit.history import Version
    from tallystick.session import Session

E = TypeVar("E", bound=Entity)
T = TypeVar("T")


class Repository(Reader[E]):
    """One kind of entity within a session's tenant.

    ``db[Visit]`` makes one; a domain subclasses it to add its operations, and ``db[Loan]`` then answers that
    subclass. Conditions are positional and all must hold; a bool is accepted only because that is what type
    checkers see in ``Visit.status == ...``.
    """

    entity: ClassVar[type[Entity]]
    _classes: ClassVar[dict[type[Entity], type[Repository[Any]]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            if isinstance(get_origin(base), type) and issubclass(get_origin(base), Repository):
                entity = get_args(base)[0]
                if isinstance(entity, type):
                    cls.entity = entity
                    Repository._classes[entity] = cls

    @classmethod
    def of(cls, db: Session, entity: type[E]) -> Repository[E]:
        """The repository class registered for an entity, bound to a session."""
        return cls._classes.get(spec_of(entity).extends or entity, Repository)(db, entity)

    async def history(self, id: UUID) -> list[Version[E]]:
        """Every version of one row, oldest first: who made it, when, why, what it changed; "audit.read" is needed.

        Versions whose bodies were dropped by policy are not there. Raises ``RoleMissing``, and ``Invalid`` for an
        entity that is not audited or beyond 10,000 versions.
        """
        from tallystick.audit.history import history

        return await history(self, id_of(id))

    async def as_of(self, id: UUID, moment: datetime) -> E | None:
        """The row as it was at a moment, None when it did not exist then; "audit.read" is needed.

        A change counts from when it was made, which is shortly before it was committed. Raises like ``history``.
        """
        from tallystick.audit.history import as_of

        return await as_of(self, id_of(id), moment)

    async def add(self, entity: E) -> E:
        """Store a new entity; answers it with its tenant, version and stamps.

        Raises ``Invalid``, ``Duplicate``, ``UnknownReference``, ``WrongTenant``.
        """
        db = self.db
        if self.spec.adapts:
            (entity,) = await adapted(self, (entity,))

        async def write() -> E:
            params = self._codec.encode(entity, db.tenant_id, await db.sealer.writer(self.spec, (entity,), new=True))
            stamps = await db.unit.insert(self._codec, params)
            return self._codec.stamped(entity, db.tenant_id, stamps, params)  # type: ignore[no-any-return]

        return await (written(self, write) if self.spec.blind else write())

    async def add_many(self, entities: Iterable[E]) -> list[E]:
        """Store new entities, all or none, in one statement per 10,000."""
        db, encode = self.db, self._codec.encode
        given = entities if isinstance(entities, list) else list(entities)
        if not given:
            return []
        if self.spec.adapts:
            given = await adapted(self, given)

        async def write() -> list[E]:
            writer = await db.sealer.writer(self.spec, given, new=True)
            rows = [encode(e, db.tenant_id, writer) for e in given]
            stamps = await db.unit.insert_many(self._codec, rows)
            stamped, tenant = self._codec.stamped, db.tenant_id
            return [stamped(e, tenant, stamps, p) for e, p in zip(given, rows, strict=True)]

        return await (written(self, write) if self.spec.blind else write())

    async def upsert(self, entity: E, *, on: Any) -> E:
        """Store the entity, or replace the one that has the same values in a declared unique rule.

        ``on`` is the rule's field, or its fields. One atomic statement: callers that race all get the one row.
        """
        rule = unique_rule(self.spec, on)
        if self.spec.append_only:
            raise self._append_only()
        if self.spec.adapts:
            if is_plain(self.spec, entity):
                return await Repository.upsert(self._plainly(), entity, on=on)
            await adapted(self, (entity,))
        return await upserted(self, entity, rule)  # type: ignore[no-any-return]

    async def update(self, entity: E, /, **changes: Any) -> E:
        """Change fields of an entity if nobody else has changed it since; answers the new one.

        Only fields that differ are written; when none does, nothing is. Raises ``StaleVersion``, ``NotFound``,
        ``InvalidTransition``, ``Invalid``.
        """
        db = self.db
        self._check_kind(entity)
        if entity.tenant_id != db.tenant_id:
            raise elsewhere(self.spec.name, entity)
        if self.spec.adapts:
            if is_plain(self.spec, entity):
                return await Repository.update(self._plainly(), entity, **changes)
            await judged(self, changes, entity)

        async def write() -> E:
            writer = await db.sealer.writer(self.spec, (entity,), changes=changes)
            columns, fields = self._codec.changes(entity, changes, writer)
            if not columns:
                return entity
            stamps = await db.unit.update(self._codec, columns, entity.id, entity.version)
            if stamps is None:
                return await self._missed(entity)
            return with_fields(entity, **fields, version=stamps[0], updated_at=stamps[3], updated_by=stamps[4])

        return await (written(self, write) if self.spec.blind else write())

    async def update_where(self, *where: Where, **changes: Any) -> int:
        """Set fields on every match, whatever its version; answers how many. At least one condition is required."""
        await known(self, where)
        query = self._bulk(where)
        columns: dict[str, Any] = {}
        await judged(self, changes)
        for name, value in changes.items():
            field = self._codec.settable(name)
            if field.kind is Kind.MONEY and len(self._codec.asset_fields) > 1 and field.asset_column == "asset":
                raise Invalid(
                    f"{self.spec.name}.{name} shares its asset with other money fields.",
                    field=name,
                    entity=self.spec.name,
                    remedy="Update the entities one by one.",
                )
            columns.update(self._codec.columns_of(field, value, None, self.db.sealer))
        if not columns:
            raise Invalid(
                "update_where() has nothing to set.", remedy="Name the fields: update_where(..., status=...)."
            )
        return await self.db.unit.update_where(self._codec, query, columns)

    async def archive(self, entity: E) -> E:
        """Set the entity aside: finds and unique rules no longer see it, ``get`` still does."""
        return await self._shelve(entity, datetime.now(UTC))

    async def restore(self, entity: E) -> E:
        """Bring an archived entity back. Raises ``Duplicate`` when its unique values were taken meanwhile."""
        return await self._shelve(entity, None)

    async def purge(self, entity: E | UUID, *, reason: str) -> None:
        """Remove one row for good. The reason goes with the change to whoever records it."""
        if isinstance(entity, UUID):
            id = entity
        else:
            self._check_kind(entity)
            id = entity.id
            if entity.tenant_id != self.db.tenant_id:
                raise elsewhere(self.spec.name, entity)
        query = self._by_id(id)
        if not await self._delete(query, reason):
            raise NotFound(f"No {self.spec.name} has this id.", entity=self.spec.name, id=id)

    async def purge_where(self, *where: Where, reason: str) -> int:
        """Remove every match for good, archived ones included; answers how many."""
        await known(self, where)
        return await self._delete(self._bulk(where, archived=True), reason)

    async def lock(self, id: UUID, *, wait: bool = True, skip: bool = False) -> E:
        """Read the entity and keep others from changing it until the transaction ends.

        Raises ``NotFound`` (also for a row that ``skip`` passes over) and ``Conflict`` when ``wait`` is False and
        somebody else holds it. Needs an open transaction, because a lock ends with one.
        """
        if self.db.unit.depth == 0:
            raise Invalid("lock() needs an open transaction.", remedy="Use async with db.transaction().")
        if self.spec.append_only:
            raise self._append_only()
        how: Lock = "exclusive or skip" if skip else "exclusive" if wait else "exclusive or refuse"
        found = await self._select(changed(self._by_id(id_of(id)), limit=1, lock=how, verb="lock"))
        if not found:
            raise NotFound(f"No {self.spec.name} has this id.", entity=self.spec.name, id=id)
        return found[0]

    async def claim(self, *, limit: int = 10, lease: timedelta = timedelta(minutes=5)) -> AsyncIterator[Claimed[E]]:
        """Lease up to ``limit`` work items that nobody else holds, oldest first.

        Iterate, and enter each item: leaving normally marks it done, leaving by an exception gives it back. Two
        workers never hold one item; a worker that dies loses its lease when ``lease`` is over.
        """
        if self.spec.queue is None:
            raise Unsupported(f"{self.spec.name} is not a queue.", remedy="Declare Queue() in its rules and migrate.")
        if not is_within(limit, 1, MAX_LIMIT):
            raise Invalid(f"claim() takes 1 to {MAX_LIMIT} items.", field="limit", remedy="Claim again for more.")
        if not isinstance(lease, timedelta) or not timedelta(0) < lease <= timedelta(days=7):
            raise Invalid(
                "A lease is a timedelta above zero and up to 7 days.",
                field="lease",
                remedy="Write timedelta(minutes=5).",
            )
        token = uuid7()
        rows = await self.db.unit.claim(self._codec, limit, lease, token)
        read, spec = self.spec.read_columns, self.spec
        at, id_at = read.index(spec.fields[spec.queue or "created_at"].column), read.index("id")
        # The oldest were chosen, but an update answers them in an order of its own.
        for row in sorted(rows, key=lambda r: (r[at] is None, r[at], r[id_at])):
            *columns, attempt = row
            value: E = (await self._entities((columns,)))[0]
            yield Claimed(self.db, self._codec, value, token, int(attempt))

    async def reveal(self, id: UUID, field: Any, *, reason: str) -> Any:
        """Open one sealed field of one row, for a stated reason, in a session that may; the opening is recorded.

        Raises ``RoleMissing``, ``NotFound``, ``Tampered``.
        """
        from tallystick.disclosure import reveal

        return await reveal(self, id, field, reason)

    def _bulk(self, where: tuple[Any, ...], *, archived: bool = False) -> Query:
        if not where:
            raise Invalid(
                "A bulk change needs at least one condition.",
                entity=self.spec.name,
                remedy="Say which rows; all_of() with no parts means every row.",
            )
        return certain(self, self._query(where, (), archived=archived))

    async def _delete(self, query: Query, reason: str) -> int:
        if self.spec.append_only:
            raise self._append_only()
        if not isinstance(reason, str) or not reason.strip():
            raise Invalid(
                "Removing rows for good needs a reason.",
                field="reason",
                remedy="Say why: purge(..., reason='test data').",
            )
        return await self.db.unit.delete_where(self._codec, query, reason.strip()[:500])

    async def _shelve(self, entity: E, at: datetime | None) -> E:
        if not self.spec.archivable:
            raise Unsupported(
                f"{self.spec.name} cannot be archived.",
                remedy="Declare archived_at: datetime | None = None where undelete is a real operation.",
            )
        return await self.update(entity, archived_at=at)

    async def _missed(self, entity: E) -> E:
        exists = await self.db.unit.get(self._codec, entity.id)
        if exists is None:
            raise NotFound(f"The {self.spec.name} no longer exists.", entity=self.spec.name, id=entity.id)
        raise StaleVersion(
            f"The {self.spec.name} was changed since it was read at version {entity.version}.", entity=self.spec.name
        )

    def _check_kind(self, entity: Any) -> None:
        if (
            not (entity.__class__ is self.spec.cls or is_plain(self.spec, entity))
            or entity.version.__class__ is not int
        ):
            raise Invalid(
                f"A {type(entity).__name__} was given where a {self.spec.name} belongs.",
                entity=self.spec.name,
                remedy=f"Use db[{type(entity).__name__}], or give what get() answered.",
            )

    def _plainly(self) -> Any:
        # One that knows no extension leaves the columns of one alone.
        return type(self)(self.db, cast("Any", self.spec.extends))

    def _append_only(self) -> Unsupported:
        return Unsupported(
            f"{self.spec.name} is append-only.", remedy="Add a row that corrects or reverses the earlier one."
        )


__all__ = ["Order", "Repository", "Where"]
