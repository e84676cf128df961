"""Refusing what would reach the server as raw text in a statement of the application's own.

SQLAlchemy quotes names and binds values; these are the places where it passes text on as it is, and the functions that
would change whose rows a connection shows or run text as SQL.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import BindParameter, Extract
from sqlalchemy.sql.elements import ColumnClause, TextClause, quoted_name
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import TextualSelect

from tallystick.errors import Unsupported
from tallystick.schema.roles import ALL_SCHEMAS

_SAFE_LITERALS = frozenset("0123456789*. ")
_RAW = ("_prefixes", "_suffixes", "_statement_hints", "_hints")
_OPERATOR = re.compile(r"[A-Za-z_ ]+|(?!.*(--|/\*))[-+*/<>=~!@#%^&|`?]+")
_WORD = re.compile(r"[A-Za-z_]+")
_FUNCTIONS = frozenset({"set_config", "set_tenant", "consume", "dblink", "dblink_exec", "lo_import", "lo_export"})


def refuse_raw(element: Any, reserved: str) -> None:
    """Raise ``Unsupported`` for one element of a statement that carries text, meddles, or changes rows.

    ``reserved`` is the name of the bind that holds the tenant.
    """
    if isinstance(element, (TextClause, TextualSelect)) or _carries_text(element):
        raise Unsupported(
            "Raw text in a statement could read past the tenant's wall.",
            remedy="Write it with SQLAlchemy's constructs: columns, func, case, literal(); no prefixes, hints or "
            "operators made of other things than operator characters.",
        )
    if isinstance(element, ColumnClause) and element.is_literal and set(str(element.name)) - _SAFE_LITERALS:
        raise Unsupported(
            "literal_column() in a statement could read past the tenant's wall.",
            remedy="Use columns, func, case and literal().",
        )
    if isinstance(element, FunctionElement) and _meddles(element):
        raise Unsupported(
            "A function of the statement changes settings, runs text as SQL or is the library's own.",
            remedy="The session sets the tenant; call the session's methods.",
        )
    if isinstance(element, BindParameter) and element.key == reserved:
        raise Unsupported(f"The bind name {reserved} is reserved.", remedy="Give the bind another name.")
    if type(element).__visit_name__ in ("insert", "update", "delete"):
        raise Unsupported("fetch() does not change rows.", remedy="Change rows through repositories.")


def _carries_text(element: Any) -> bool:
    if any(getattr(element, name, None) for name in _RAW):
        return True
    operator = getattr(element, "operator", None)
    if isinstance(operator, custom_op) and not _OPERATOR.fullmatch(operator.opstring):
        return True
    if isinstance(element, Extract) and not _WORD.fullmatch(element.field):
        return True
    names = (getattr(element, "name", None), getattr(element, "schema", None), *getattr(element, "packagenames", ()))
    return any(isinstance(name, quoted_name) and name.quote is False for name in names)


def _meddles(function: Any) -> bool:
    # Without a schema the server looks in ours too, so our functions are refused by name as well.
    *where, name = (
        str(part).lower() for part in (*getattr(function, "packagenames", ()), getattr(function, "name", ""))
    )
    return name in _FUNCTIONS or "_to_xml" in name or not set(ALL_SCHEMAS).isdisjoint(where)
