"""Races about persons run where their keys can be destroyed."""

from __future__ import annotations

from tests.privacy.rights import house, office  # noqa: F401  fixtures of these tests
