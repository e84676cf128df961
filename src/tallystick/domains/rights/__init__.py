"""Persons' rights: erasure, hold, restriction, export, retention; ``db.privacy`` is the way in."""
