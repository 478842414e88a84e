"""Which network addresses a destination may have. Pure.

Whoever makes a destination lets this server speak for them: without a rule they would reach what
only this server can reach (server-side request forgery). So everything that is not on the public
network is refused, unless the operator says otherwise.
"""

from __future__ import annotations

import ipaddress
import socket

PRIVATE_SETTING = "CDP_ALLOW_PRIVATE_DESTINATIONS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAMES_OF_THIS_MACHINE = ("localhost", "ip6-localhost", "ip6-loopback")
# NAT64 and 6to4 carry an IPv4 address inside, which would be reached in the end.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def read_literal(host: str) -> Address | None:
    """Return the address that ``host`` is, in any spelling that resolvers take for one.

    ``None`` for a name that must be looked up. ``localhost`` needs no look-up.
    """
    bare = host.strip("[]").rstrip(".").lower()
    if bare in _NAMES_OF_THIS_MACHINE or bare.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001 and 2130706433 lead to this machine too.
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except (OSError, ValueError):
        return None


def is_refused(address: Address) -> bool:
    """Whether ``address`` is private, of this machine, or otherwise not on the public network."""
    inner = _find_inner(address)
    if inner is not None:
        return is_refused(inner)
    return not address.is_global or address.is_multicast or address.is_reserved


def _find_inner(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
