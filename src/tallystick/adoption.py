"""Looking at a database that is in use before Tallystick moves in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tallystick.domains.catalog import chosen, entities_of
from tallystick.entity import spec_of

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.schema.adopt import Adoption
    from tallystick.schema.roles import Roles
    from tallystick.settings import Settings
    from tallystick.spec import EntitySpec


async def adopt(
    url: str,
    *,
    roles: Roles | None = None,
    domains: Iterable[str] | None = None,
    entities: Iterable[type[Entity]] = (),
    version_locations: Sequence[str | Path] = (),
    settings: Settings | None = None,
) -> Adoption:
    """Look at a live database and say what adopting it would add, what is missing, and what stays as it is.

    Reads catalogs in one read-only transaction and takes no lock that a writer waits for. Give it the URL that is to
    provision and migrate; any other works and is told which rights it lacks. ``settings`` say how many processes with
    which pools there will be, and what our roles are called where ``roles`` does not. Raises ``Unavailable`` and
    ``NotProvisioned`` when the server cannot be reached or refuses the login, ``Invalid`` for a domain nobody knows.
    """
    from tallystick.schema import adopt as work
    from tallystick.settings import Settings

    settings = settings or Settings()
    wanted = chosen(domains)
    tables = {domain: tuple(dict.fromkeys(spec_of(e).table for e in entities_of([domain]))) for domain in wanted}
    tables[work.YOURS] = tuple(dict.fromkeys(name for e in entities for name in _adds(spec_of(e))))
    return await work.look(
        url,
        settings=settings,
        roles=roles or settings.roles,
        tables=tables,
        only=None if domains is None else wanted,
        version_locations=version_locations,
    )


def _adds(spec: EntitySpec) -> Iterator[str]:
    """The table of an entity, or the columns that an extension adds to it."""
    if spec.extends is None:
        yield spec.table
    else:
        there = {c.name for c in spec_of(spec.extends).columns}
        yield from (f"{spec.table}.{c.name}" for c in spec.columns if c.name not in there)
