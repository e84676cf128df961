"""Sizes of tests that only get surer by being longer: short here, as long as the environment says for a soak.

``TALLYSTICK_SOAK_REPEATS=20 TALLYSTICK_SOAK_KILLS=100 TALLYSTICK_SOAK_EXAMPLES=120 TALLYSTICK_SOAK_RANDOM=1`` is what
they were judged by.
"""

from __future__ import annotations

import os


def size(name: str, usual: int) -> int:
    """``TALLYSTICK_SOAK_<name>``, or what is usual."""
    return int(os.environ.get(f"TALLYSTICK_SOAK_{name}") or usual)


REPEATS = range(size("REPEATS", 8))
"""Each race is run so many times."""
KILLS = size("KILLS", 30)
"""So many times something is killed with -9 under repayments."""
EXAMPLES = size("EXAMPLES", 30)
"""So many lives of loans are compared with their model, each with statements by the dozen."""
RANDOM = bool(size("RANDOM", 0))
"""Whether property tests draw other examples each time."""
