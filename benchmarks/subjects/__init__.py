"""The subjects of the benchmark, one file each, loaded only when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar
from uuid import UUID

from benchmarks.table import Draft

ACTOR = "bench"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a subject finds the table: the same server, role and database for all of them."""

    host: str
    port: int
    user: str
    password: str
    database: str
    schema: str
    table: str
    tenant: UUID
    tenant_slug: str
    prefix: str
    """What the installation's roles are called after."""

    @property
    def asyncpg(self) -> dict[str, Any]:
        """Arguments of ``asyncpg.connect``. The actor is what the table's stamps read."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "server_settings": {"tally.actor": ACTOR},
        }


class Subject(ABC):
    """One way to read and write the table. Methods are coroutines, or plain when ``sync``.

    Objects that are written are built by ``make`` before the clock starts. A subject answers with its own natural
    objects, which are compared before anything is timed.
    """

    name: ClassVar[str]
    sync: ClassVar[bool] = False
    paging: ClassVar[str] = "offset"
    """How page 500 is reached: ``cursor``, ``row comparison`` or ``offset``."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def open(self) -> Any: ...

    @abstractmethod
    def close(self) -> Any: ...

    @abstractmethod
    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        """The objects to write, in the subject's own type."""

    def make_many(self, drafts: Sequence[Draft]) -> list[Any]:
        """The same for ``add_many``, where the subject's own bulk form takes something else."""
        return self.make(drafts)

    @abstractmethod
    def get(self, id: UUID) -> Any: ...

    @abstractmethod
    def page(self) -> Any:
        """(the 20 newest posted payments, whether there are more)."""

    def items(self, page: Any) -> tuple[Sequence[Any], bool]:
        """What a page holds and whether there are more, for the comparison before the timing."""
        items, more = page
        return items, more

    def before_page_500(self, last: Any) -> Any:  # noqa: B027  most have nothing to keep
        """Untimed: keep what page 499 ends with. ``last`` is its last payment, for those who compare rows."""

    @abstractmethod
    def page_500(self) -> Any: ...

    @abstractmethod
    def find(self) -> Any:
        """The 10,000 newest posted payments."""

    @abstractmethod
    def add(self, item: Any) -> Any: ...

    @abstractmethod
    def add_many(self, items: list[Any]) -> Any: ...

    @abstractmethod
    def update(self, item: Any, reference: str) -> Any:
        """The item with the new reference and version; refuses when somebody changed it since it was read."""

    @abstractmethod
    def transaction(self, first: Any, second: Any, item: Any, reference: str) -> Any:
        """Two inserts and a versioned update, all or nothing; the updated item."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject that can be asked for by name, and what to install for it."""

    module: str
    label: str
    needs: tuple[str, ...]
    install: str


SUBJECTS = {
    "asyncpg": Entry("asyncpg_raw", "asyncpg", ("asyncpg",), "tallystick"),
    "tallystick": Entry("tallystick", "Tallystick", ("tallystick",), "tallystick"),
    "tallystick-sync": Entry("tallystick_sync", "… sync", ("tallystick",), "tallystick"),
    "advanced-alchemy": Entry(
        "advanced_alchemy", "Adv. Alchemy", ("advanced_alchemy", "uuid_utils"), "advanced-alchemy[uuid]"
    ),
    "sqlalchemy-core": Entry("sqlalchemy_core", "SA Core", ("sqlalchemy", "greenlet"), "sqlalchemy[asyncio]"),
    "sqlalchemy-orm": Entry("sqlalchemy_orm", "SA ORM", ("sqlalchemy", "greenlet"), "sqlalchemy[asyncio]"),
    "django": Entry("django_orm", "Django", ("django", "psycopg"), "django' 'psycopg[binary]"),
    "sqlmodel": Entry("sqlmodel", "SQLModel", ("sqlmodel", "greenlet"), "sqlmodel"),
    "tortoise": Entry("tortoise", "Tortoise", ("tortoise",), "tortoise-orm[asyncpg]"),
    "piccolo": Entry("piccolo", "Piccolo", ("piccolo",), "piccolo[postgres]"),
}
BASE = ("asyncpg", "tallystick")
OURS = ("tallystick", "tallystick-sync")
DEFAULT_PEERS = ("advanced-alchemy", "sqlalchemy-core", "sqlalchemy-orm", "django")


def missing(name: str) -> str | None:
    """The remedy when a subject cannot run here, else None."""
    for module in SUBJECTS[name].needs:
        try:
            import_module(module)
        except ImportError:
            return f"pip install '{SUBJECTS[name].install}'"
    return None


def load(name: str, target: Target) -> Subject:
    subject: Subject = import_module(f"benchmarks.subjects.{SUBJECTS[name].module}").Subject(target)
    return subject
