"""``./run bench domains``: its parts."""

from __future__ import annotations

from benchmarks.domains import applications, inputs, ticks
from benchmarks.suite import Suite

TWINS = (
    "vault_asset", "vault", "vault_position", "risk_alert", "protection_rule", "rule_firing", "price_tick",
    "tally_ref.market_data", "tally_ref.asset_price", "behavior_input", "application", "decision", "review_task",
)  # fmt: skip
SUITE = Suite(
    name="domains",
    about="Price ticks, claims of inputs, pages of the review queue and statistics beside SQL written by hand.",
    quick="fewer turns over as many rows",
    twins=TWINS,
    parts={
        "tick": ticks.measure,
        "inputs": inputs.measure,
        "queue": applications.measure_queue,
        "statistics": applications.measure_statistics,
    },
    apart=frozenset({"inputs", "queue"}),
)
