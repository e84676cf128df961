"""Behaviour, scores and reputation: what users did, what models made of it, and how well they are thought of."""
