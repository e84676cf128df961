"""The application that the command line works for: the built-in domains and whatever ``--app`` names.

``--app shop.data:entities`` (or ``TALLYSTICK_APP``) imports the module ``shop.data``, from the current directory too,
and takes its attribute: a list of entities, one entity, or a ``Tallystick`` that was described with
``Tallystick.open(...)``, whose domains and folders of revisions come along. ``--revisions DIR`` (or
``TALLYSTICK_REVISIONS``) names the folder of revisions for a list, which has none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.errors import Invalid, TallystickError

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.settings import Settings


def describe(
    name: str | None, settings: Settings | None, domains: Sequence[str] | None, revisions: Path | None = None
) -> Tallystick:
    """The application of a name. What is given beside it wins over its own. Raises ``Invalid``."""
    from tallystick.app import Tallystick

    folders: tuple[str | Path, ...] = () if revisions is None else (revisions,)

    found = named(name) if name is not None else ()
    if isinstance(found, Tallystick):
        return Tallystick.open(
            domains=found.domains if domains is None else domains,
            entities=found.entities,
            settings=settings or found.settings,
            keys=found.keys,
            clock=found.clock,
            version_locations=folders or found.version_locations,
        )
    return Tallystick.open(domains=domains, entities=found, settings=settings, version_locations=folders)


def named(name: str) -> Any:
    """What ``module:attribute`` names: a ``Tallystick``, or a tuple of entities. Raises ``Invalid``."""
    from tallystick.app import Tallystick
    from tallystick.entity import Entity

    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise _wrong("is not written as module:attribute")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except TallystickError:
        raise
    except ImportError as problem:
        raise _wrong(f"names a module that cannot be imported ({type(problem).__name__})") from problem
    except Exception as problem:
        raise _wrong(f"names a module that fails when it is imported ({type(problem).__name__})") from problem
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _wrong("names an attribute that its module does not have")
        found = getattr(found, part)
    if isinstance(found, Tallystick):
        return found
    if isinstance(found, type) and issubclass(found, Entity):
        return (found,)
    entities = tuple(found) if isinstance(found, Iterable) and not isinstance(found, str | bytes) else ()
    if entities and all(isinstance(one, type) and issubclass(one, Entity) for one in entities):
        return entities
    raise _wrong("names neither entities nor a Tallystick")


def _wrong(problem: str) -> Invalid:
    return Invalid(
        f"--app (TALLYSTICK_APP) {problem}.",
        field="app",
        remedy="Write --app shop.data:entities, where entities is a list of Entity classes or a Tallystick.",
    )
