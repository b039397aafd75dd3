"""Work in portions of about the same size, whatever the lengths of the texts."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def portions(items: Iterable[Item], num_characters: int, length_of: Callable[[Item], int] = len) -> Iterator[list[Item]]:
    """Gathers items, in their order, into lists that end with the item by which they reach a number of characters.

    Args:
        items: read as the portions are asked for.
        num_characters: what a portion holds at least, but for the last.
        length_of: an item's characters.
    """
    portion, characters = [], 0
    for item in items:
        portion.append(item)
        characters += length_of(item)
        if characters >= num_characters:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion
