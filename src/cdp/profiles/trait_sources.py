"""Who said which part of a trait that was said in several. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cdp.profiles.traits import Register, Trait
from cdp.trait_parts import ADD, ADD_OP


def list_sources(trait: Trait) -> Iterator[tuple[str, Any, Register]]:
    """Give each part of a trait that counts: its dotted path, its value, and who said it.

    Of a list that was added to, one for each element. A trait said as a whole has no parts.
    """
    name, value = trait.newest.name, trait.newest.value
    # The newest last: of one part it is who counts.
    by_part = {register.part: register for register in trait.said}
    if isinstance(value, Mapping):
        for path, pointer, leaf in _list_leaves(value, name, ""):
            if pointer in by_part:
                yield path, leaf, by_part[pointer]
    elif isinstance(value, list):
        for part, register in by_part.items():
            if part.startswith(ADD) and register.value[ADD_OP][0] in value:
                yield name, register.value[ADD_OP][0], register


def _list_leaves(
    value: Mapping[str, Any], path: str, pointer: str
) -> Iterator[tuple[str, str, Any]]:
    for name, inner in value.items():
        here = f"{path}.{name.replace('.', chr(92) + '.')}"
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(inner, Mapping) and inner:
            yield from _list_leaves(inner, here, place)
        else:
            yield here, place, inner
