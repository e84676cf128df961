"""Vaults, prices and liquidations of others, read from their files."""
