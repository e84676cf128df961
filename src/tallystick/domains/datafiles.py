"""Reading data files: plain or gzipped, and typed errors for one that is not what it should be."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from tallystick.errors import Invalid

_LARGEST: Final = 256 * 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
Told = Callable[[int], None]


def text_of(path: Path, what: str, most: int = _LARGEST) -> str:
    """The text of a file, whether gzipped or not, without a byte order mark.

    Raises ``Invalid`` when it cannot be read, is no UTF-8 text, or unpacks to more than ``most`` bytes.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as stream:
            raw = stream.read(most + 1)
        if len(raw) > most:
            raise Invalid(f"The file is far larger than {what}.", field="path", remedy="Check the path.")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        problem = f"The file of {what} is not text."
    except (gzip.BadGzipFile, EOFError, zlib.error):
        problem = f"The file of {what} is damaged."
    except OSError as error:
        problem = f"The file of {what} cannot be read ({error.strerror})."
    raise Invalid(problem, field="path", remedy="Check the path and the download.")


def table_of(path: Path, what: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a table, without spaces around its names, and its rows with their line numbers.

    Empty lines are passed over. Raises ``Invalid`` for a header that names a column twice, for a row that has not as
    many fields as the header, and for quotes that do not end.
    """
    lines = csv.reader(io.StringIO(text_of(path, what), newline=""), strict=True)
    rows = _numbered(lines, what)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise Invalid(f"The header of {what} names a column twice.", field="path", remedy="Check the path.")
    return header, _whole(header, rows)


def rows_of(path: Path, what: str, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table by column, in whatever order these are, with their line numbers.

    Raises what ``table_of`` does, and ``Invalid`` for columns that are missing.
    """
    header, rows = table_of(path, what)
    missing = set(needed) - set(header)
    if missing:
        raise Invalid(f"The file of {what} lacks the column {min(missing)}.", field="path", remedy="Check the path.")
    for at, cells in rows:
        yield at, dict(zip(header, cells, strict=True))


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that match a pattern, gzipped ones too, by name."""
    return sorted(f for p in (pattern, f"{pattern}.gz") for f in folder.glob(p) if f.is_file())


def number(at: int, text: str, column: str) -> Decimal:
    """A finite number of a line. Raises ``Invalid`` with the line."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or abs(found.adjusted()) > 90 or len(text) > 200:
        raise bad(at, f"has no number in {column}")
    return found


def bad(at: int, what: str) -> Invalid:
    """What is wrong with a line, without its values."""
    return Invalid(f"Line {at} {what}.", field="path", remedy="Nothing was stored; check the file.")


def _numbered(lines: Iterator[list[str]], what: str) -> Iterator[tuple[int, list[str]]]:
    at = 0
    try:
        for line in lines:
            at += 1
            if line:
                yield at, line
    except csv.Error:
        raise bad(at + 1, f"of {what} is damaged: a quoted value does not end, or is too long") from None


def _whole(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for at, line in rows:
        if len(line) != len(header):
            raise bad(at, f"has {'fewer' if len(line) < len(header) else 'more'} fields than the header")
        yield at, line
