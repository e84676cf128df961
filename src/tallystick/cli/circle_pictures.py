"""Savings groups as SVG: all of them as bars of what became of the money, and one as a grid of who paid when."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from tallystick.cli.svg import Drawing, Number

if TYPE_CHECKING:
    from tallystick.domains.savings.overview import Overview
    from tallystick.domains.savings.views import Circle
    from tallystick.money import Money

_LEFT: Final = 260
_BARS: Final = 300
_WIDTH: Final = 880
_MOST_GROUPS: Final = 100
_MANY: Final = 10**24
_CELL: Final = 26
_MOST_MEMBERS, _MOST_ROUNDS = 100, 60
_PARTS: Final = (("one", "paid_out", "paid out"), ("four", "fees", "fees"), ("three", "held", "held"))
CELLS: Final = {
    "confirmed": ("three", "", "paid"),
    "covered": ("hatched", "", "paid by collateral"),
    "late": ("two", "L", "late"),
    "defaulted": ("two", "×", "defaulted"),  # noqa: RUF001  drawn, and in the font of every viewer
    "pending": ("empty", "…", "pending"),
    "failed": ("empty", "!", "failed"),
    "orphaned": ("empty", "?", "orphaned"),
    "waived": ("empty", "=", "waived"),
    "expected": ("empty", "", "expected"),
}
"""How a contribution is drawn: the style of its cell, a mark in it, and what it is called."""


def told(money: Money) -> str:
    """An amount with its asset; units where the application did not register the asset, and few digits of very many."""
    from tallystick.errors import Invalid

    if money.units >= _MANY:
        return f"{Decimal(money.units):.5e} units"
    try:
        return f"{money.amount:,} {money.asset}"
    except Invalid:
        return f"{money.units:,} units"


def overview_picture(found: list[Overview], tenant: str) -> str:
    """A bar for each group as long as what was paid in, cut into paid out, fees and held; hatched, what is owed."""
    shown = found[:_MOST_GROUPS]
    step, title = 30, f"Savings groups of {tenant}"
    lines = [f"{o.group.name}: {told(o.paid_in)} in, {told(o.held)} held, {told(o.owed)} owed" for o in shown]
    drawing = Drawing(
        _WIDTH,
        60 + max(1, len(shown) + (len(shown) < len(found))) * step + 44,
        title=title,
        description=". ".join(lines) or "There are no groups.",
    )
    drawing.text(20, 32, title, style="head")
    longest: Counter[str] = Counter()
    for o in shown:
        longest[o.group.asset] = max(longest[o.group.asset], o.paid_in.units + o.owed.units)
    y = 54
    drawing.line((_LEFT, y), (_LEFT, y + len(shown) * step), "axis")
    for o in shown:
        drawing.text(_LEFT - 10, y + 20, _short(o.group.name), anchor="end")
        x: Number = _LEFT
        scale = Fraction(_BARS, longest[o.group.asset] or 1)
        for style, name, word in _PARTS:
            money: Money = getattr(o, name)
            if money.units > 0:
                drawing.rect(x, y + 5, money.units * scale, 20, style, tip=f"{o.group.name}, {word}: {told(money)}")
                x += money.units * scale
        if o.owed.units:
            drawing.rect(x, y + 5, o.owed.units * scale, 20, "hatched", tip=f"{o.group.name}, owed: {told(o.owed)}")
            x += o.owed.units * scale
        active = o.group.status.value == "active"
        where = f"round {o.group.current_round} of {o.group.rounds}" if active else o.group.status.value
        drawing.text(x + 8, y + 20, f"{told(o.paid_in)}, {where}", style="faint")
        y += step
    if len(shown) < len(found):
        drawing.text(20, y + 20, f"and {len(found) - len(shown):,} more")
        y += step
    elif not found:
        drawing.text(20, y + 20, "There are no groups.")
        y += step
    x = 20
    for style, _, word in (*_PARTS, ("hatched", "", "owed by members")):
        drawing.rect(x, y + 16, 14, 14, style)
        drawing.text(x + 20, y + 28, word, style="faint")
        x += 44 + len(word) * 7
    return str(drawing)


def status_of(one: Circle) -> dict[tuple[object, object], str]:
    """What became of each regular contribution, by member and round; a default that collateral paid is covered."""
    found: dict[tuple[object, object], str] = {}
    for c in one.contributions:
        if c.kind.value == "regular":
            name = c.status.value
            found[c.member, c.round] = "covered" if name == "defaulted" and not c.owed else name
    return found


def circle_picture(one: Circle) -> str:
    """A line a member, a column a round; a ring around the cell where the pot comes to the member."""
    everybody = sorted(one.members, key=lambda m: (m.position is None, m.position or 0, m.id))
    members, rounds = everybody[:_MOST_MEMBERS], one.rounds[:_MOST_ROUNDS]
    paid = status_of(one)
    counted = Counter(paid.values())
    group = one.group
    title = f"{_short(group.name, 60)}: {group.status.value}, round {group.current_round} of {group.rounds}"
    left, top = 60, 84
    grid = left + len(rounds) * _CELL
    used = [name for name in CELLS if rounds and (counted[name] or name == "expected")]
    drawing = Drawing(
        max(grid + 250, 640, 40 + len(title) * 10),
        top + max(1, len(members)) * _CELL + 76,
        title=title,
        description=f"{len(one.members)} members; "
        + (", ".join(f"{n} contributions {CELLS[name][2]}" for name, n in counted.items()) or "nothing paid yet"),
    )
    drawing.text(20, 32, title, style="head")
    left_out = len(everybody) - len(members)
    summed = f"{told(one.paid_in)} paid in, {told(one.paid_out)} paid out, {told(one.held)} held, {told(one.owed)} owed"
    drawing.text(20, 54, summed, style="faint")
    for n, current in enumerate(rounds):
        drawing.text(left + n * _CELL + _CELL / 2, top - 6, str(current.seq), style="faint", anchor="middle")
    rings = []
    for n, member in enumerate(members):
        y = top + n * _CELL
        drawing.text(left - 10, y + 17, str(n + 1), style="faint", anchor="end")
        for m, current in enumerate(rounds):
            x, name = left + m * _CELL, paid.get((member.ref, current.ref), "expected")
            _cell(drawing, x, y, name, f"member {n + 1}, round {current.seq}: {CELLS[name][2]}")
            if current.recipient == member.ref:
                rings.append((x, y))
        notes = [word for word, true in (("received", member.has_received), ("in debt", member.in_debt)) if true]
        drawing.text(grid + 12, y + 17, ", ".join((member.status.value, *notes)), style="faint")
    # After all cells, because a ring lies a little over its neighbours.
    for x, y in rings:
        drawing.rect(x + 1, y + 1, _CELL - 2, _CELL - 2, "ring", tip="receives the pot")
    y, x = top + max(1, len(members)) * _CELL + 22, 20
    if left_out:
        drawing.text(20, y - 2, f"and {left_out:,} more members", style="faint")
        y += 18
    for name in used:
        _cell(drawing, x - 3, y - 4, name, "")
        drawing.text(x + 26, y + 13, CELLS[name][2], style="faint")
        x += 48 + len(CELLS[name][2]) * 7
    if rings:
        drawing.rect(x - 2, y - 3, _CELL - 2, _CELL - 2, "ring")
        drawing.text(x + 28, y + 13, "receives", style="faint")
    return str(drawing)


def _cell(drawing: Drawing, x: int, y: int, name: str, tip: str) -> None:
    style, mark, _ = CELLS[name]
    drawing.rect(x + 4, y + 4, _CELL - 8, _CELL - 8, style, tip=tip)
    if mark:
        drawing.text(
            x + _CELL / 2, y + _CELL / 2 + 5, mark, style="faint" if style == "empty" else "mark", anchor="middle"
        )


def _short(name: str, most: int = 33) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
