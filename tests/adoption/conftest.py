"""The lender with branches, made once; see ``branches.py``."""

from __future__ import annotations

from tests.adoption.branches import db, house, plain  # noqa: F401  fixtures of these tests
