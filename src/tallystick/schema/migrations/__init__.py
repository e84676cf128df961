"""Where the revisions live: one folder a branch under ``versions``, and the template new ones are written from."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path(__file__).parent
VERSIONS = DIRECTORY / "versions"
