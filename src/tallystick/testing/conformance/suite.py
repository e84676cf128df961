"""All parts of the suite as one class."""

from __future__ import annotations

from tallystick.testing.conformance.filtering import Filters
from tallystick.testing.conformance.kinds import Kinds
from tallystick.testing.conformance.paging import Paging
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.conformance.walls import Walls
from tallystick.testing.conformance.writing import Writing


class StoreConformance(Kinds, Filters, Paging, Writing, Transactions, Walls):
    """Subclass it in a test module; see the package."""
