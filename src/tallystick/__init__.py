"""Tallystick: the data layer for lending and credit in Python."""

from __future__ import annotations

__version__ = "0.1.0"
