"""What every store must do, as a suite that a store's own tests import and must pass.

Subclass it, say what the store declares unsupported, and give a fixture ``store_app``: an open ``Tallystick``, or
whatever has its ``session`` and ``tenants``, installed with ``ENTITIES``::

    from tallystick.testing.conformance import ENTITIES, Capability, StoreConformance

    class TestMyStore(StoreConformance):
        unsupported = frozenset({Capability.FETCH})

A test that needs an unsupported capability is skipped, and another asserts that using it raises ``Unsupported``
before anything is read or written: a store may do less than PostgreSQL, and may not do it differently.
"""

from __future__ import annotations

from tallystick.testing.conformance.capabilities import Capability, needs
from tallystick.testing.conformance.entities import ENTITIES
from tallystick.testing.conformance.suite import StoreConformance

__all__ = ["ENTITIES", "Capability", "StoreConformance", "needs"]
