"""Factories from the declarations: ``await make(Visit, fee=usd("3"))``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tallystick.constraints import snake
from tallystick.entity import Entity, spec_of
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.privacy.sealed import Secret, secret
from tallystick.spec import EntitySpec, FieldSpec, Kind
from tallystick.testing.guesses import Guesses

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session

E = TypeVar("E", bound=Entity)
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
_ATTEMPTS = 12
_RECIPES: dict[str, Callable[..., Awaitable[Any]]] = {}


def recipe(fn: F) -> F:
    """Register a factory of your own: ``@recipe async def active_loan(make, **given)`` makes ``make.active_loan()``."""
    _RECIPES[fn.__name__] = fn
    return fn


class Make:
    """Makes entities that satisfy their declaration; what a test does not say is made up.

    Required fields get plausible values within their lengths, digits, ranges and initial states, and so do people's
    unique identifiers (a user's e-mail); other optional fields keep their default. Required references are made and
    stored first. Values that must be unique differ. The same seed makes the same values; ids are always new.

    Checks are understood where they compare one column with a number or a list; where a row still violates one, the
    fields it names are drawn again a few times. What that cannot satisfy has to be given. ``build`` stores nothing and
    so asks nobody.
    """

    def __init__(self, db: Session, *, seed: str = "") -> None:
        self._db = db
        self._guesses = Guesses(seed)
        self._making: list[type] = []

    @property
    def db(self) -> Session:
        """The session that it stores through."""
        return self._db

    def on(self, db: Session) -> Make:
        """The same factory storing through another session, another tenant's for instance."""
        other = Make(db)
        other._guesses = self._guesses
        return other

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """A recipe, or the entity of that name: ``make.visit(fee=...)``."""
        import tallystick.testing.recipes  # noqa: F401  it registers the kit's own

        found = _RECIPES.get(name)
        if found is not None:
            return lambda *args, **given: found(self, *args, **given)
        for entity in self._db._app._known:
            if name in (spec_of(entity).table, snake(entity.__name__)):
                return lambda **given: self(entity, **given)
        raise AttributeError(f"There is no recipe and no entity called {name}.")

    async def __call__(self, entity: type[E], /, **given: Any) -> E:
        """Store a new entity. Raises ``Invalid`` for a field that the entity does not have, and what ``add`` does."""
        plan = await self._plan(entity, given)
        attempt = 0
        while True:
            try:
                async with self._db.transaction():
                    return await self._db[entity].add(self._built(entity, plan))
            except Invalid as problem:
                attempt += 1
                if attempt >= _ATTEMPTS or not plan.reconsider(problem):
                    raise

    async def many(self, entity: type[E], count: int, /, **given: Any) -> list[E]:
        """Store ``count`` entities that share what was given, references included."""
        plan = await self._plan(entity, given)
        return await self._db[entity].add_many([self._built(entity, plan) for _ in range(count)])

    def build(self, entity: type[E], /, **given: Any) -> E:
        """An entity that is not stored, nor are those it refers to; they are its references' values."""
        plan = _Plan(spec_of(entity), given)
        for field in plan.references():
            with self._within(entity, field):
                plan.given[field.name] = self.build(field.inner).ref
        return self._built(entity, plan)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _plan(self, entity: type[Entity], given: dict[str, Any]) -> _Plan:
        plan = _Plan(spec_of(entity), given)
        for field in plan.references():
            with self._within(entity, field):
                plan.given[field.name] = (await self(field.inner)).ref
        return plan

    @contextmanager
    def _within(self, entity: type[Entity], field: FieldSpec) -> Iterator[None]:
        """While what a required reference needs is made, unless that needs this in turn."""
        if entity in self._making:
            raise Invalid(
                f"{entity.__name__} needs another {entity.__name__} to refer to.",
                field=field.name,
                remedy=f"Give it: make({entity.__name__}, {field.name}=...).",
            )
        self._making.append(entity)
        try:
            yield
        finally:
            self._making.pop()

    def _built(self, entity: type[E], plan: _Plan) -> E:
        values = dict(plan.given)
        for field in plan.wanted:
            if field.name not in values:
                loose = field.name in plan.loose
                guess = self._guesses
                values[field.name] = guess.member(field) if loose else guess.value(plan.spec, field, plan.asset)
        return entity(**values)


class _Plan:
    """What of an entity was given, and which of its other fields are made up."""

    def __init__(self, spec: EntitySpec, given: dict[str, Any]) -> None:
        self.spec = spec
        self.given = _checked(spec, given)
        declared: Any = spec.cls
        required = {f.name for f in msgspec.structs.fields(declared) if f.required}
        unique = {name for i in spec.indexes if i.unique for name in i.fields}
        self.wanted = [f for n, f in spec.fields.items() if n in required or (f.search is not None and n in unique)]
        self.loose: set[str] = set()
        shared = [
            v.asset for n, v in self.given.items() if isinstance(v, Money) and spec.fields[n].asset_column == "asset"
        ]
        self.asset = shared[0] if shared else "USD"

    def references(self) -> list[FieldSpec]:
        """The references that have to be made first."""
        return [f for f in self.wanted if f.kind is Kind.REF and f.name not in self.given]

    def reconsider(self, problem: Invalid) -> bool:
        """Whether a violated check may be met by filling in fields that it names, or by drawing them again."""
        check = next((c for c in self.spec.checks if f"violates {c.name}:" in problem.problem), None)
        if check is None:
            return False
        named = [
            f
            for n, f in self.spec.fields.items()
            if re.search(rf"\b{f.column}\b", check.sql) and n not in self.given and not f.system
        ]
        free = [f for f in named if f not in self.wanted and f.optional and f.kind is not Kind.REF]
        machines = {t.field for t in self.spec.transitions}
        loose = {f.name for f in named if f.kind in (Kind.ENUM, Kind.BOOLEAN)} - machines
        self.wanted.extend(free)
        if not free:
            self.wanted.extend(f for f in named if f.name in loose and f not in self.wanted)
            self.loose |= loose
        return bool(free or loose)


def _checked(spec: EntitySpec, given: dict[str, Any]) -> dict[str, Any]:
    """What was given, with plain secrets sealed and entities and ids turned into references."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        field = spec.fields.get(name)
        if field is None:
            raise Invalid(
                f"{spec.name} has no field {name[:40]}.",
                entity=spec.name,
                field=name[:40],
                remedy=f"Fields are: {', '.join(spec.fields)}.",
            )
        found[name] = _fitted(field, value)
    return found


def _fitted(field: FieldSpec, value: Entity | UUID | Any) -> Any:
    if value is None:
        return None
    if field.kind is Kind.SECRET and not isinstance(value, Secret):
        return secret(value)
    if field.kind is Kind.REF and not isinstance(value, Ref):
        id: Any = value
        return value.ref if isinstance(value, Entity) else Ref(id)
    return value
