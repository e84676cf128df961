"""``./run bench audit``: what the audit log costs whoever writes.

Two tables of the same columns, indexes, policies and guards in one database, one audited and one not, are written to
through Tallystick in turns. The audited side's entries stay: a log only grows.
"""
