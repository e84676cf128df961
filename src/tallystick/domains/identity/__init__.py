"""Who there is: tenants, user accounts, wallets, and what was revealed of them."""
