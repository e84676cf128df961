"""Write docs/errors.md from the error tree; ``--check`` fails when the page is stale."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from tallystick import errors

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
HEAD = """# Errors

Every error is a `TallystickError` with a stable `code`, typed attributes and a remedy. Messages name tables, fields,
rules and limits; they never hold a stored value. Written by `python tools/errors_page.py` from `errors.py`.

| code | error | a kind of | means | usual remedy |
|---|---|---|---|---|
"""


def rows() -> list[str]:
    found = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.TallystickError)]
    lines = []
    for cls in sorted(found, key=lambda c: c.code):
        doc = (inspect.getdoc(cls) or "").splitlines()[0]
        parent = cls.__mro__[1].__name__
        lines.append(f"| {cls.code} | `{cls.__name__}` | `{parent}` | {doc} | {cls.default_remedy} |")
    return lines


def main() -> int:
    text = HEAD + "\n".join(rows()) + "\n"
    if "--check" in sys.argv:
        if PAGE.read_text() != text:
            print("docs/errors.md is stale: run python tools/errors_page.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
