"""Messages that leave with the work that made them."""
