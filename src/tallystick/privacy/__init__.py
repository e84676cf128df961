"""Privacy: sealed values, envelopes, keys and blind indexes."""
