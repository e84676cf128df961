"""Reading the tables of a data set: every line is what it should be, or the first that is not is named."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from tallystick.errors import Invalid
from tallystick.money import Money

_LARGEST = 64 * 1024 * 1024
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,16})?", re.ASCII)
_CENT = Decimal("0.01")


def find(path: Path, folder: str, names: Sequence[str]) -> Path:
    """The folder with all files of a data set that a path means: itself, the file's own, or ``folder`` within it.

    Raises ``Invalid``.
    """
    places = (path.parent, path, path / folder) if path.is_file() and path.name in names else (path, path / folder)
    for place in places:
        if all((place / name).is_file() for name in names):
            return place
    raise Invalid(
        f"The files of the data set are not at that path: {', '.join(names)}.",
        field="path",
        remedy=f"Name the folder they are in, or the one that has {folder} in it.",
    )


class Line:
    """One line of a table: its number and its cells by column. Messages never repeat what a cell says."""

    __slots__ = ("_cells", "file", "number")

    def __init__(self, file: str, number: int, cells: dict[str, str]) -> None:
        self.file, self.number, self._cells = file, number, cells

    def text(self, column: str, allowed: Collection[str] | re.Pattern[str]) -> str:
        """A cell that is one of some words, or matches a pattern. Raises ``Invalid``."""
        cell = self._cells[column]
        known = allowed.fullmatch(cell) if isinstance(allowed, re.Pattern) else cell in allowed
        if not known:
            raise self.bad(column, "something that is not known")
        return cell

    def decimal(self, column: str) -> Decimal:
        """A number that is not below zero. Raises ``Invalid``."""
        cell = self._cells[column]
        if not _NUMBER.fullmatch(cell):
            raise self.bad(column, "no number")
        return Decimal(cell)

    def whole(self, column: str, least: int = 0, most: int = 10**9) -> int:
        """A whole number within bounds. Raises ``Invalid``."""
        found = self.decimal(column)
        if found != int(found) or not least <= found <= most:
            raise self.bad(column, f"no whole number from {least} to {most}")
        return int(found)

    def day(self, column: str) -> date:
        """A day of the twentieth century written as YYMMDD. Raises ``Invalid``."""
        cell = self._cells[column]
        try:
            if len(cell) != 6:
                raise ValueError
            return date(1900 + int(cell[:2]), int(cell[2:4]), int(cell[4:]))
        except ValueError:
            pass
        raise self.bad(column, "no day as YYMMDD")

    def bad(self, column: str, has: str) -> Invalid:
        """The error for a cell."""
        return _bad(self.file, self.number, f"has {has} for {column}")


def cents(amount: Decimal, asset: str) -> Money:
    """An amount as money of an asset with two decimals; what is finer is rounded half to even."""
    return Money.of(amount.quantize(_CENT, ROUND_HALF_EVEN), asset)


def lines(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[Line]:
    """The lines of a table that has at least these columns. Raises ``Invalid`` with a line's number."""
    name = path.name
    try:
        if path.stat().st_size > _LARGEST:
            raise Invalid(f"{name} is far larger than the data set.", field="path", remedy="Check the path.")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            if not set(columns) <= set(header) or len(set(header)) < len(header):
                raise _bad(name, 1, "is not the header of the data set")
            for cells in reader:
                if len(cells) != len(header):
                    raise _bad(name, reader.line_num, f"has {len(cells)} values instead of {len(header)}")
                yield Line(name, reader.line_num, dict(zip(header, cells, strict=True)))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except csv.Error:
        problem = "is damaged: a quoted value does not end, or is too long"
    else:
        return
    raise Invalid(f"{name} {problem}.", field="path", remedy="Get the file again.")


def _bad(file: str, line: int, problem: str) -> Invalid:
    return Invalid(f"Line {line} of {file} {problem}.", field="path", remedy="Nothing was loaded; get the file again.")
