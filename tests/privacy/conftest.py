"""An office whose keys can be destroyed; see ``rights.py``."""

from __future__ import annotations

from tests.privacy.rights import house, office  # noqa: F401  fixtures of these tests
