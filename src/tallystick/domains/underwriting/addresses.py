"""Addresses of machines, which are encrypted where they are stored, so that only here somebody can look at them."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from tallystick.errors import Invalid

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")


def check_addresses(entity: str, ip: Any = None, mac: Any = None) -> None:
    """Refuse an IP address (4 or 6) or a MAC address that is none. Raises ``Invalid``, which names neither."""
    if ip is not None and not _is_ip(ip):
        raise Invalid(
            "That is no IP address.",
            field="ip_address",
            entity=entity,
            remedy='Write it without a port or a network: "192.0.2.7", "2001:db8::1".',
        )
    if mac is not None and not (isinstance(mac, str) and _MAC.fullmatch(mac)):
        raise Invalid(
            "That is no MAC address.",
            field="mac_address",
            entity=entity,
            remedy='Write six pairs of digits: "02:00:5e:10:00:00".',
        )


def _is_ip(given: Any) -> bool:
    if not isinstance(given, str):
        return False
    try:
        ipaddress.ip_address(given)
    except ValueError:
        return False
    return True
