"""The ledger: accounts, journals of transfers, periods, proposals. ``db.ledger`` is the way in."""
