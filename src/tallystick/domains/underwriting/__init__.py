"""Loan applications and the decisions on them."""
