"""Orchard: the shop of a growers' co-operative. It has run for years before anybody thought of lending."""
