"""``./run bench lending``: its parts."""

from __future__ import annotations

from benchmarks.lending import journals, repayments, risk, trust
from benchmarks.suite import Suite

TWINS = (
    "command_key", "account", "account_stripe", "journal", "transfer", "loan", "loan_schedule", "loan_installment",
    "loan_transaction", "loan_allocation", "trust_edge",
)  # fmt: skip
SUITE = Suite(
    name="lending",
    about="Journals, repayments, portfolio at risk and trust scores beside SQL written by hand.",
    quick="shorter turns: about two minutes instead of four",
    twins=TWINS,
    parts={
        "repay": repayments.measure,
        "journals": journals.measure,
        "par": risk.measure,
        "trust": trust.measure,
    },
    apart=frozenset({"repay"}),
)
