"""Reads and writes by blind index, while the keys of indexes may be rotated by somebody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tallystick.conditions import Condition
from tallystick.entity import with_fields
from tallystick.errors import Conflict, Duplicate, Serialization
from tallystick.filters import Filter

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.reader import Reader
    from tallystick.repository import Repository
    from tallystick.spec import FieldSpec, IndexSpec

T = TypeVar("T")
_UPSERT_TRIES = 5


async def known(repository: Reader[Any], where: tuple[Any, ...]) -> None:
    """Know the generations of index keys before conditions on sealed fields are bound."""
    sealer = repository.db.sealer
    if not repository.spec.blind or not sealer.keyed:
        return
    bound: list[tuple[FieldSpec, Any]] = []
    for one in where:
        for condition in one.conditions() if isinstance(one, Filter) else (one,):
            if isinstance(condition, Condition):
                condition.bind(bound)
    if any(field.sealed for field, _ in bound):
        await sealer.current()


async def written(repository: Repository[Any], write: Callable[[], Awaitable[T]]) -> T:
    """Return what a write answers; it is tried once more where index keys were rotated unheard of."""
    try:
        return await write()
    except Serialization:
        repository.db.sealer.renew()
        if repository.db.unit.depth:
            raise
    return await write()


async def upserted(repository: Repository[Any], entity: Any, rule: IndexSpec) -> Any:
    """Write or replace by a unique rule; raises ``Conflict`` when the row kept changing, or is another person's."""
    db, spec, codec = repository.db, repository.spec, repository._codec
    taken: UUID | None = None
    for _ in range(_UPSERT_TRIES):
        params = codec.encode(entity, db.tenant_id, await db.sealer.writer(spec, (entity,)))
        now = db.sealer.rule(spec, rule) if spec.blind and db.sealer.keyed else rule
        try:
            row = await db.unit.upsert(codec, now, params)
        except (Duplicate, Serialization) as problem:
            broken = problem.rule if isinstance(problem, Duplicate) else rule.name
            if broken == f"pk_{spec.table}":
                # Others were replacing the row, or rotating its index: the rule's index showed no version of it, and
                # that of ids did. An id that was given and is another row's is refused.
                if entity.id != taken and (db.unit.depth or entity.id != await db.unit.id_by_rule(codec, now, params)):
                    raise
            elif broken != rule.name or not spec.blind:
                # While index keys are rotated the rule has two indexes, and only one of them is asked.
                raise
            db.sealer.renew()
            if db.unit.depth:
                raise Serialization("Others were replacing the row, or rotating its index.", entity=spec.name) from None
            continue
        if row is not None:
            return (await repository._entities((row,)))[0]
        # Ciphertext is bound to its row, so the values are sealed anew for the row that is there.
        id = await db.unit.id_by_rule(codec, now, params)
        if id == entity.id and spec.subject is not None:
            raise Conflict(
                f"The {spec.name} that has these values is about another person.",
                entity=spec.name,
                rule=rule.name,
                remedy="Whose data a row is never changes: remove that row first, or update it.",
            )
        if id is not None:
            entity, taken = with_fields(entity, id=id), id
    raise Conflict(
        f"The {spec.name} kept changing under its unique rule.", entity=spec.name, rule=rule.name, remedy="Try again."
    )
