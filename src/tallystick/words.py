"""Words that SQL keeps for itself."""

from __future__ import annotations

# Categories R and T of pg_get_keywords(): what PostgreSQL 15 to 18 does not take as a column's name without quotes.
# The last line are the columns that each table has by itself.
RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with
    cmax cmin ctid tableoid xmax xmin
    """.split()  # noqa: SIM905
)
"""Refused as names of tables and columns, so that checks and conditions written in SQL never need quotes."""
