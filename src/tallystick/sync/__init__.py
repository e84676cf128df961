"""The synchronous facade: what ``tallystick`` has, for code that does not await.

``from tallystick.sync import Tallystick``. Its classes are made from the asynchronous ones; ``__init__.pyi`` is
written from them by ``tools/sync_facade.py``, so type checkers and editors see exact signatures.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tallystick.sync.app import Tallystick


def __getattr__(name: str) -> Any:
    from tallystick.sync.facade import facade_of
    from tallystick.sync.index import WHERE

    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = facade_of(getattr(import_module(WHERE[name]), name))
    globals()[name] = found
    return found


__all__ = ["Tallystick"]
