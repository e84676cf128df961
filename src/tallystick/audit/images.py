"""Images of rows, as the log has them, held against rows as they are, whatever was done to the columns since.

They stand apart from the reconciliation, which finds the pairs, because what counts as a difference needs no database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

decode = msgspec.json.Decoder(float_hook=Decimal).decode
"""A document with every number as it was written."""


def differing(now: Mapping[str, Any], image: Mapping[str, Any], added: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """The columns of a row that are not as its image has them.

    A column that the image lacks was added later: it may be null, have its default, or the value of a column that the
    table no longer has, for then it was renamed. ``added`` are the values that each column may have so; an ellipsis
    stands for any. A column that only the image has was dropped.
    """
    gone = [value for name, value in image.items() if name not in now]
    found = []
    for name, value in now.items():
        if name in image:
            if image[name] != value:
                found.append(name)
        elif value not in (allowed := added.get(name, [None])) and ... not in allowed and value not in gone:
            found.append(name)
    return tuple(found)


def constant(default: str | None) -> list[Any]:
    """The value of a default that is a constant; nothing is run to find out."""
    text = default or ""
    if quoted := re.fullmatch(r"'((?:[^']|'')*)'(::[a-z_ ]+(\([0-9, ]+\))?(\[\])?)?", text):
        words = quoted[1].replace("''", "'")
        if (quoted[2] or "").startswith("::json"):
            return [decode(words)]
        if (quoted[2] or "").startswith("::timestamp"):
            # As PostgreSQL writes moments in UTC, and as they are in JSON.
            words = words.replace(" ", "T", 1)
            return [f"{words}:00" if words.endswith("+00") else words]
        return [words, *([decode(words)] if re.fullmatch(r"-?[0-9]{1,80}(\.[0-9]{1,80})?", words) else [])]
    if text in ("true", "false") or re.fullmatch(r"-?[0-9]{1,80}(\.[0-9]{1,80})?", text):
        return [decode(text)]
    return []
