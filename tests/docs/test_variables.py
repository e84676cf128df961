"""Every environment variable that the documentation names is one that something reads."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bTALLYSTICK_[A-Z_]*[A-Z]\b")
# Read by the tests alone: how large those are that grow on demand.
OF_TESTS = "TALLYSTICK_SOAK_"


def names(*files: Path) -> set[str]:
    return {name for file in files for name in NAME.findall(file.read_text())}


def test_the_variables_that_pages_name_are_read() -> None:
    read = names(*(ROOT / "src").rglob("*.py"))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")):
        unread = {name for name in names(page) - read if not name.startswith(OF_TESTS)}
        assert not unread, page.name
