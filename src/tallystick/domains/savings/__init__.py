"""Savings circles: groups whose members pay in each round, and each receive the pot once."""
