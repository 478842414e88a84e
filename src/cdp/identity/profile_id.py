"""Profile ids: derived from the identifier that names the profile, so a rebuild issues the same."""

from __future__ import annotations

import hashlib
from itertools import product

PREFIX = "prf_"
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits a step: letter by letter takes most of the time that new people cost.
_PAIRS = [one + other for one, other in product(_LETTERS, repeat=2)]
_SHIFTS = range(120, -1, -10)


def make_profile_id(
    salt: bytes, type_name: str, value: str, variant: str = "", generation: int = 0
) -> str:
    """Return ``prf_`` and 26 characters of Crockford's base 32 (130 bits).

    A keyed BLAKE2b (RFC 7693) over the identifier: nobody without the workspace's salt can tell
    from an id whose it is. ``generation`` counts how often the identifier was erased: whoever
    returns is somebody else.
    """
    text = f"{type_name}\0{value}\0{variant}".encode()
    if generation:
        text += b"\0%d" % generation
    digest = hashlib.blake2b(text, key=salt[:64], digest_size=20).digest()
    bits = int.from_bytes(digest[:17]) >> 6
    return PREFIX + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])
