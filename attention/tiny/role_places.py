"""What a head of a role looks for: for each byte of a text, the earlier bytes that are the role's places.

Source of the roles: Clark et al. 2019 (arXiv:1906.04341, section 4). Source of induction: Olsson et al. 2022
(arXiv:2209.11895, "induction heads").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLANK = b" \t\n\r"
BRACKETS = {b")"[0]: b"("[0], b"]"[0]: b"["[0], b"}"[0]: b"{"[0]}
NGRAM = 3
"""How many bytes must be equal for an earlier occurrence."""


def previous_byte(text: bytes) -> np.ndarray:
    """Places of the role: bool[length, length]. Row t is true where byte t should look, and all false where byte t does
    not take part. The other roles' functions return the same."""
    return np.eye(len(text), k=-1, dtype=bool)


def first_byte(text: bytes) -> np.ndarray:
    places = np.zeros((len(text), len(text)), dtype=bool)
    places[1:, 0] = True
    return places


def line_starts(text: bytes) -> list[tuple[int, int]]:
    """(position of the first non-blank byte, its indentation) of every line that has one."""
    starts, at = [], 0
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip(b" \t"))
        if line[indent:].strip():
            starts.append((at + indent, indent))
        at += len(line)
    return starts


def same_indentation(text: bytes) -> np.ndarray:
    places = np.zeros((len(text), len(text)), dtype=bool)
    starts = line_starts(text)
    for i, (position, indent) in enumerate(starts):
        for earlier, other in starts[:i]:
            places[position, earlier] = indent == other
    return places


def matching_bracket(text: bytes) -> np.ndarray:
    places = np.zeros((len(text), len(text)), dtype=bool)
    opened: list[int] = []
    for position, byte in enumerate(text):
        if byte in BRACKETS.values():
            opened.append(position)
        elif byte in BRACKETS and opened:
            place = opened.pop()
            # brackets that do not match are in quoted or cut text: they have no place
            places[position, place] = text[place] == BRACKETS[byte]
    return places


def _same_ngram(text: bytes) -> np.ndarray:
    """bool[length, length]: true at [t, s] if s < t and the NGRAM bytes that end at s equal those that end at t.

    None of these bytes may be blank.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    same = data[:, None] == data[None, :]
    solid = ~np.isin(data, np.frombuffer(BLANK, dtype=np.uint8))
    both = same & solid[:, None]
    out = both.copy()
    for back in range(1, NGRAM):
        shifted = np.zeros_like(both)
        shifted[back:, back:] = both[:-back, :-back] if back < len(text) else False
        out &= shifted
    return np.tril(out, -1)


def earlier_occurrence(text: bytes) -> np.ndarray:
    return _same_ngram(text)


def induction(text: bytes) -> np.ndarray:
    places = np.zeros((len(text), len(text)), dtype=bool)
    places[:, 1:] = _same_ngram(text)[:, :-1]
    # in a run of equal bytes the byte after the earlier occurrence can be byte t itself: it does not count
    return np.tril(places, -1)


@dataclass(frozen=True, slots=True)
class HeadRole:
    """A role: its name, its definition in words, its places, and whether it depends only on positions."""

    key: str
    label: str
    definition: str
    places: Callable[[bytes], np.ndarray]
    positional: bool = False


ROLES: tuple[HeadRole, ...] = (
    HeadRole("previous", "previous byte", "Every byte but the first: the byte just before it.", previous_byte, True),
    HeadRole("first", "first byte", "Every byte but the first: the very first byte of the text.", first_byte, True),
    HeadRole(
        "indentation",
        "same indentation",
        "The first non-blank byte of a line: the first non-blank bytes of all earlier lines with the same indentation.",
        same_indentation,
    ),
    HeadRole(
        "bracket",
        "matching bracket",
        "A closing bracket ), ] or }: the bracket it closes.",
        matching_bracket,
    ),
    HeadRole(
        "occurrence",
        "earlier occurrence",
        f"A byte that ends {NGRAM} non-blank bytes which stood there before: the ends of those earlier occurrences.",
        earlier_occurrence,
    ),
    HeadRole(
        "induction",
        "induction",
        f"A byte that ends {NGRAM} non-blank bytes which stood there before: the bytes that came next, back then.",
        induction,
    ),
)
