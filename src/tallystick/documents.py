"""JSON documents on their way into a store: what could not be read back as it was written is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

_DEEPEST = 64
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_LONG_NUMBER = re.compile(r"\d{19}")
_LOW, _HIGH = -(2**63), 2**64 - 1


def written(value: Any, kind: Any) -> tuple[str, str]:
    """A document as JSON text, or why it is none: ``(text, "")`` or ``("", problem)``; a problem quotes no value.

    ``kind`` is the declared type. The encoder alone is no judge: it writes NaN as null, integers that come back as
    floats, documents of another type, and ones nested deeper than a reader may follow.
    """
    try:
        text = msgspec.json.encode(value).decode()
        problem = _misread(value, kind, text)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "", "cannot be written as JSON"
    return ("", problem) if problem else (text, "")


def _misread(value: Any, kind: Any, text: str) -> str:
    if "\\u0000" in text and _NUL.search(text):
        return "holds a NUL character"
    if text.count("[") + text.count("{") > _DEEPEST or "null" in text or _LONG_NUMBER.search(text):
        problem = _look(msgspec.to_builtins(value, builtin_types=(bytes,)), _DEEPEST)
        if problem:
            return problem
    if _is_plain_object(kind):
        fits = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        return "" if fits else "should be a dict whose keys are str"
    try:
        _decoder(kind)(text)
    except msgspec.DecodeError:
        return "is not of the declared type"
    return ""


def _look(part: Any, levels: int) -> str:
    if part.__class__ is float:
        return "" if isfinite(part) else "holds NaN or an infinity"
    if part.__class__ is int:
        return "" if _LOW <= part <= _HIGH else "holds an integer beyond 64 bits"
    if isinstance(part, Mapping):
        inner: Any = part.values()
    elif isinstance(part, list | tuple | set | frozenset):
        inner = part
    else:
        return ""
    if not levels:
        return f"is nested deeper than {_DEEPEST} levels"
    return next((problem for one in inner if (problem := _look(one, levels - 1))), "")


@cache
def _is_plain_object(kind: Any) -> bool:
    """Whether the type is ``dict`` or ``dict[str, Any]``, which need no decoder to be judged."""
    if get_origin(kind) in (Union, UnionType):
        members = [a for a in get_args(kind) if a is not NoneType]
        return len(members) == 1 and _is_plain_object(members[0])
    return kind is dict or (get_origin(kind) in (dict, Mapping) and get_args(kind) == (str, Any))


@cache
def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind).decode
