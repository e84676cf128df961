"""``./run bench lending``: journals, repayments, portfolio at risk and trust scores beside SQL written by hand.

The statements written by hand run on twins of the generated tables: the same columns, constraints and indexes, without
row-level security and without triggers. What the triggers do (balances, totals, settled amounts) they do themselves, in
one transaction, with locks taken in the same order; everything is compared with Tallystick's own rows afterwards.
"""
