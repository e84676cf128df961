"""Retention policies: for how long a class of data is kept, at least and at most, and on what legal ground."""

from __future__ import annotations

from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.consents import LegalBasis
from tallystick.entity import Entity
from tallystick.fields import Length, Once
from tallystick.rules import Check, Readable, Rules, Unique


class RetentionPolicy(Entity):
    """What a tenant decided for one retention class; it replaces the example that the library ships.

    ``minimum_months`` count from the last change of anything in the class about the person: until then erasure waits.
    ``maximum_months`` count from the same moment: after that the sweep erases by itself; None never does. ``hold``
    stops both for the whole class. ``reason`` and ``citation`` say why, in words and by source.
    """

    data_class: Annotated[str, Length(63, min=1), Once()]
    basis: LegalBasis
    reason: Annotated[str, Length(300, min=3)]
    citation: Annotated[str, Length(200)] = ""
    minimum_months: int = 0
    maximum_months: int | None = None
    hold: bool = False

    rules = Rules(
        Unique("data_class"),
        Check("minimum", "minimum_months between 0 and 1200"),
        Check("maximum", "maximum_months is null or maximum_months between greatest(minimum_months, 1) and 1200"),
        retain="audit",
        readable={"data_class": Readable.CODE, "reason": Readable.TERMS, "citation": Readable.TERMS},
    )


class RetentionPolicies(Guarded[RetentionPolicy]):
    """The tenant's own policies; ``db.privacy.policies()`` is what holds with the shipped examples."""

    permission = "privacy.policies"
    instead = "db.privacy.set_policy()"
