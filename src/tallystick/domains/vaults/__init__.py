"""Collateralised vaults: agents, assets and their risk, prices, what vaults hold and owe, and what follows from it."""
