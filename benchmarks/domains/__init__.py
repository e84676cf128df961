"""``./run bench domains``: price ticks, claims of inputs, the review queue and statistics beside SQL written by hand.

As in ``benchmarks.lending`` the statements written by hand run on twins of the generated tables: the same columns,
constraints, indexes and fill factors, without row-level security and without triggers. What the triggers do they do
themselves, with the same locks; what was written is compared row by row afterwards, what was read before.
"""
