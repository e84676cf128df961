"""Zero-knowledge proofs: circuits, verifying keys, requests, verdicts, and proofs that are used once."""
