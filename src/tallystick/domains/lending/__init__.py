"""Loans: terms, schedules and what they cost."""
