"""``db.fairness``: how groups fare in the tenant's decisions, and flags where one is selected too rarely."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import Application
from tallystick.domains.underwriting.decisions import Decision
from tallystick.domains.underwriting.fairness_metrics import GroupOutcome, Impact, impacts
from tallystick.entity import Entity
from tallystick.errors import Conflict, Duplicate, Invalid
from tallystick.fields import Length, Once
from tallystick.query import one_of
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept

MINIMUM = 30
"""How many of a group, and of the one it is compared with, are decided before a rate says anything."""
_MOST_TRUTHS = 1_000_000


class FlagState(StrEnum):
    """What became of a flag."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    MITIGATED = "mitigated"
    DISMISSED = "dismissed"


_S = FlagState
STANDING = (_S.OPEN, _S.ACKNOWLEDGED)


class BiasFlag(Entity):
    """A group selected at less than four fifths of the rate of another, with the counts that say so.

    The database refuses one whose counts do not say so: four fifths itself is not adverse (29 CFR 1607.4(D), strictly
    below). ``model_version`` is empty for decisions of all models and people together. One stands for each attribute,
    group and model version.
    """

    attribute: Annotated[str, Length(63, min=1), Once()]
    group_label: Annotated[str, Length(100, min=1), Once()]
    reference_label: Annotated[str, Length(100, min=1), Once()]
    model_version: Annotated[str, Length(50), Once()] = ""
    window_start: Annotated[datetime, Once()] | None = None
    window_end: Annotated[datetime, Once()] | None = None
    decided: Annotated[int, Once()]
    selected: Annotated[int, Once()]
    reference_decided: Annotated[int, Once()]
    reference_selected: Annotated[int, Once()]
    minimum: Annotated[int, Once()] = MINIMUM
    state: FlagState = FlagState.OPEN
    closed_at: datetime | None = None
    note: Annotated[str, Length(1000, min=1)] | None = None

    rules = Rules(
        Unique("attribute", "group_label", "model_version", where="state in ('open', 'acknowledged')"),
        Index("state", "created_at", query="flags of a state, newest first"),
        Check("counts", "selected between 0 and decided and reference_selected between 0 and reference_decided"),
        Check("enough", "minimum >= 1 and decided >= minimum and reference_decided >= minimum"),
        Check(
            "adverse",
            "selected::numeric * reference_decided * 5 < reference_selected::numeric * decided * 4",
        ),
        Check("closed", "(state in ('mitigated', 'dismissed')) = (closed_at is not null)"),
        Check("dismissed", "state <> 'dismissed' or note is not null"),
        Transitions(
            "state",
            {
                _S.OPEN: [_S.ACKNOWLEDGED, _S.MITIGATED, _S.DISMISSED],
                _S.ACKNOWLEDGED: [_S.MITIGATED, _S.DISMISSED],
            },
            initial=[_S.OPEN],
        ),
        kept(),
        retain="lending",
        readable={
            "attribute": Readable.CODE,
            "group_label": Readable.CODE,
            "reference_label": Readable.CODE,
            "model_version": Readable.CODE,
            "note": Readable.NOTE,
        },
    )


class Monitored(msgspec.Struct, frozen=True, kw_only=True):
    """What one look of the monitor found: flags it opened, flags it closed, and groups too small to judge."""

    opened: list[BiasFlag]
    closed: list[BiasFlag]
    too_small: list[str]


class Fairness(Guarded[BiasFlag]):
    """Fairness over the tenant's decisions, and its flags. To open, close or answer flags takes "fairness.manage"."""

    permission = "fairness.manage"
    instead = "db.fairness.monitor(), acknowledge(), mitigate() and dismiss()"

    async def groups(
        self,
        attribute: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model_version: str | None = None,
        truth: Mapping[UUID, bool] | None = None,
    ) -> list[GroupOutcome]:
        """How the groups of a monitored attribute were decided in [since, until), in order of name.

        It counts final decisions, of one model version where that is given. ``truth`` says of applications how they
        turned out (True: was worth approving), which equalized odds needs. Raises ``Invalid``.
        """
        from sqlalchemy import func, select

        _check(attribute, since, until, model_version)
        a, d = Application.table, Decision.table
        promoted = f"monitoring_{attribute}"
        group: Any = a.c[promoted] if promoted in a.c else a.c.monitoring[attribute].astext
        group = group.label("group")
        joined = a.join(d, (d.c.application_id == a.c.id) & (d.c.tenant_id == a.c.tenant_id))
        conditions = [d.c.is_final, group.element.is_not(None), *_within(a.c.decided_at, since, until)]
        if model_version is not None:
            conditions.append(d.c.model_version == model_version)
        chosen = d.c.outcome == "approved"
        if truth is None:
            counts = [func.count().label("total"), func.count().filter(chosen).label("selected")]
            statement = select(group, *counts).select_from(joined).where(*conditions).group_by(group)
            found: list[GroupOutcome] = await self.db.fetch(statement, into=GroupOutcome)
            return sorted(found, key=lambda g: g.group)
        known = _truths(truth)
        statement = select(a.c.id, group, chosen.label("selected")).select_from(joined).where(*conditions)
        rows: list[_Row] = await self.db.fetch(statement, into=_Row)
        return _counted(rows, known)

    async def impacts(
        self,
        attribute: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model_version: str | None = None,
    ) -> list[Impact]:
        """Each group beside the one that was selected most; ``adverse`` says which are below four fifths."""
        return impacts(await self.groups(attribute, since=since, until=until, model_version=model_version))

    async def monitor(
        self,
        attribute: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model_version: str | None = None,
        minimum: int = MINIMUM,
    ) -> Monitored:
        """Open a flag for each group that is selected too rarely, and close flags whose group no longer is.

        A flag is closed as mitigated. Groups of fewer than ``minimum`` are left as they are. What somebody dismissed
        within the window is not raised again. Needs "fairness.manage"; monitors at the same time open one flag.
        """
        db = self.db
        await db.require(self.permission)
        if minimum.__class__ is not int or not 1 <= minimum <= 1_000_000:
            raise Invalid("A minimum is a whole number from 1.", field="minimum", entity="BiasFlag")
        version = model_version or ""
        async with db.transaction():
            found = await self.groups(attribute, since=since, until=until, model_version=model_version)
            big = [g for g in found if g.total >= minimum]
            judged = impacts(big)
            adverse = {i.group.group: i for i in judged if i.adverse}
            here = (BiasFlag.attribute == attribute, BiasFlag.model_version == version)
            standing = {f.group_label: f for f in await self.find(*here, one_of(BiasFlag.state, STANDING))}
            past = await self.find(*here, BiasFlag.state == _S.DISMISSED)
            dismissed = {f.group_label for f in past if since is None or (f.closed_at and f.closed_at >= since)}
            closed = [
                await self._close(flag, _S.MITIGATED, "Selected at four fifths or more again.")
                for name, flag in standing.items()
                if name in {g.group for g in big} and name not in adverse and len(big) > 1
            ]
            opened = []
            for name, impact in adverse.items():
                if name not in standing and name not in dismissed:
                    flag = await self._raise(_flag(attribute, impact, (since, until), version, minimum))
                    opened += [flag] if flag is not None else []
        return Monitored(opened=opened, closed=closed, too_small=[g.group for g in found if g.total < minimum])

    async def acknowledge(self, flag: BiasFlag | UUID) -> BiasFlag:
        """Say that somebody looks into it. Raises ``InvalidTransition``."""
        await self.db.require(self.permission)
        async with self.db.transaction():
            return await alter(self, await self.lock(id_of(flag, BiasFlag, "flag")), state=_S.ACKNOWLEDGED)

    async def mitigate(self, flag: BiasFlag | UUID, note: str) -> BiasFlag:
        """Close a flag because of what was done about it. Raises ``Conflict`` when it is closed."""
        return await self._answer(flag, _S.MITIGATED, note)

    async def dismiss(self, flag: BiasFlag | UUID, note: str) -> BiasFlag:
        """Close a flag because there is a reason for it, which is kept. Raises ``Conflict`` when it is closed."""
        return await self._answer(flag, _S.DISMISSED, note)

    async def _answer(self, flag: BiasFlag | UUID, state: FlagState, note: str) -> BiasFlag:
        await self.db.require(self.permission)
        async with self.db.transaction():
            found = await self.lock(id_of(flag, BiasFlag, "flag"))
            if found.state not in STANDING:
                raise Conflict(f"The flag is {found.state.value}.", entity="BiasFlag", remedy="It was closed before.")
            return await self._close(found, state, note)

    async def _close(self, flag: BiasFlag, state: FlagState, note: str) -> BiasFlag:
        return await alter(self, flag, state=state, closed_at=self.db.now(), note=note)

    async def _raise(self, flag: BiasFlag) -> BiasFlag | None:
        """Add a flag, unless another monitor did first."""
        try:
            async with self.db.transaction():
                return await put(self, flag)
        except Duplicate:
            return None


class _Row(msgspec.Struct, frozen=True):
    id: UUID
    group: str
    selected: bool


def _counted(rows: list[_Row], truth: Mapping[UUID, bool]) -> list[GroupOutcome]:
    from tallystick.domains.underwriting.fairness_metrics import outcomes

    return outcomes([r.group for r in rows], [r.selected for r in rows], [truth.get(r.id) for r in rows])


def _flag(
    attribute: str, impact: Impact, window: tuple[datetime | None, datetime | None], version: str, minimum: int
) -> BiasFlag:
    return BiasFlag(
        attribute=attribute,
        group_label=impact.group.group,
        reference_label=impact.reference.group,
        model_version=version,
        window_start=window[0],
        window_end=window[1],
        decided=impact.group.total,
        selected=impact.group.selected,
        reference_decided=impact.reference.total,
        reference_selected=impact.reference.selected,
        minimum=minimum,
    )


def _check(attribute: Any, since: Any, until: Any, version: Any) -> None:
    if not isinstance(attribute, str) or not attribute.isidentifier() or len(attribute) > 50:
        raise Invalid("A monitored attribute is a plain name.", field="attribute", remedy='Say "sex" or "age_band".')
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
            raise Invalid("A period's bounds are datetimes with a time zone.", field=name)
    if version is not None and (not isinstance(version, str) or not 1 <= len(version) <= 50 or "\0" in version):
        raise Invalid("A model version is 1 to 50 characters.", field="model_version")


def _within(column: Any, since: datetime | None, until: datetime | None) -> list[Any]:
    bounds = ((since, ">="), (until, "<"))
    return [column.op(sign)(moment) for moment, sign in bounds if moment is not None]


def _truths(truth: Any) -> Mapping[UUID, bool]:
    fine = isinstance(truth, Mapping) and len(truth) <= _MOST_TRUTHS
    if not fine or not all(isinstance(k, UUID) and isinstance(v, bool) for k, v in truth.items()):
        raise Invalid("The truth is a dict from application ids to whether each was worth approving.", field="truth")
    known: Mapping[UUID, bool] = truth
    return known
