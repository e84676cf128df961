"""Reading data files: typed errors, and no surprise from a file that is not what it should be."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from tallystick.errors import Invalid

_LARGEST: Final = 256 * 1024 * 1024
Told = Callable[[int], None]


def text_of(path: Path, what: str) -> str:
    """The text of a file. Raises ``Invalid`` when it cannot be read or is no text."""
    try:
        if path.stat().st_size > _LARGEST:
            raise Invalid(f"The file is far larger than {what}.", field="path", remedy="Check the path.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = f"The file of {what} cannot be read ({error.strerror})."
    except UnicodeDecodeError:
        problem = f"The file of {what} is not text."
    raise Invalid(problem, field="path", remedy="Check the path and the download.")


def rows_of(path: Path, what: str, needed: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers. Raises ``Invalid`` for missing columns and short rows."""
    reader = csv.DictReader(io.StringIO(text_of(path, what), newline=""))
    missing = needed - set(reader.fieldnames or ())
    if missing:
        raise Invalid(f"The file of {what} lacks the column {min(missing)}.", field="path", remedy="Check the path.")
    for row in reader:
        if any(value is None for value in row.values()):
            raise bad(reader.line_num, "has fewer fields than the header")
        yield reader.line_num, row


def number(at: int, text: str, column: str) -> Decimal:
    """A finite number of a line. Raises ``Invalid`` with the line."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or abs(found.adjusted()) > 90:
        raise bad(at, f"has no number in {column}")
    return found


def bad(at: int, what: str) -> Invalid:
    """What is wrong with a line, without its values."""
    return Invalid(f"Line {at} {what}.", field="path", remedy="Nothing was stored; check the file.")
