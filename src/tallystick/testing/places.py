"""Where the servers of test runs live."""

from __future__ import annotations

import tempfile
from pathlib import Path

PREFIX = "tallystick-test-"


def directory_of(run: str) -> Path:
    """The directory of one run's embedded server; its name cannot be guessed, so nobody can prepare it."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{run}"
