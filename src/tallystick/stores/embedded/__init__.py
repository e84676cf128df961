"""A PostgreSQL server that starts by itself, for laptops, tests and small installations."""

from __future__ import annotations

from tallystick.stores.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
