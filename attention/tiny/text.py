"""A text for the page of heads: it is cleaned and cut, and every head's attention is packed for the browser."""

from __future__ import annotations

import base64
import unicodedata
from dataclasses import dataclass

import numpy as np

from attention.tiny.config import TinyConfig
from attention.tiny.corpus import load_corpus, windows
from attention.tiny.numpy_forward import Maps

MAX_BYTES = TinyConfig().max_context
MAX_TYPED = 4_000
"""Most characters that are accepted. Of these, the first MAX_BYTES bytes are read."""

EXAMPLES: dict[str, str] = {
    "Nested code": (
        "class Shelf:\n    def __init__(self, books):\n        self.books = list(books)\n\n    def longest(self):\n"
        "        best = None\n        for book in self.books:\n            if best is None or len(book) > len(best):\n"
        "                best = book\n        return best\n"
    ),
    "Repeated names": (
        "threshold = 0.5\nsamples = [value for value in samples if value > threshold]\n"
        "if not samples:\n    raise ValueError('no samples above the threshold')\nprint(threshold, len(samples))\n"
    ),
    "Brackets": (
        "points = [(x, (y + 1) * 2) for (x, y) in zip(left, right)]\n"
        "table = {'first': [1, 2, (3, 4)], 'last': {'key': (5, [6, 7])}}\n"
        "return max(points, key=lambda p: (p[1], p[0]))\n"
    ),
    "Words": (
        '"""Return the number of words in the text.\n\nA word is a run of letters; digits and signs end a word.\n'
        'If the text is empty, return zero.\n"""\n'
    ),
}
"""Texts written for this page, so they are not in the training text."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text that a model can read, and in words what was changed ("" if nothing)."""

    text: bytes
    note: str = ""


def clean(typed: str) -> Cleaned:
    """Make typed text readable for a model: without control characters but tab and newline, and at most MAX_BYTES bytes
    of whole characters.

    Raises:
        ValueError: no text is left, or there are more than MAX_TYPED characters.
    """
    if len(typed) > MAX_TYPED:
        raise ValueError(f"the text has {len(typed):,} characters; these models read at most {MAX_BYTES} bytes")
    # lone surrogates, for example from a broken address, cannot be written as UTF-8
    typed = typed.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", errors="replace").decode("utf-8")
    kept = "".join(c for c in typed if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Cn"))
    notes = []
    if len(kept) != len(typed):
        notes.append("control characters were left out")
    whole = kept.encode("utf-8")
    # the cut may split a character, whose first bytes are removed too
    text = whole[:MAX_BYTES].decode("utf-8", errors="ignore").encode("utf-8")
    if not text.strip():
        raise ValueError("the text is empty: type some text, or choose an example")
    if len(text) < len(whole):
        notes.append(f"only the first {len(text)} of {len(whole):,} bytes are read: that is how far these models look")
    return Cleaned(text, "; ".join(notes))


def held_out_sample(length: int = MAX_BYTES) -> tuple[str, bytes]:
    """(file name, `length` bytes from its middle) of a held-out file of this machine's standard library."""
    file = max(load_corpus().held_out, key=lambda f: (len(f.text) // 20_000 == 1, f.name))
    rows = windows(file.text, length)
    return file.name, rows[len(rows) // 2][:-1].tobytes()


def glyphs(text: bytes) -> list[str]:
    """One visible sign per byte. Bytes of longer characters are hexadecimal, since the model sees bytes."""
    return [_glyph(byte) for byte in text]


def _glyph(byte: int) -> str:
    if byte in b"\n":
        return "↵"
    if byte in b"\t":
        return "→"
    return chr(byte) if 32 <= byte < 127 else f"{byte:02x}"


def name_of(byte: int) -> str:
    """A byte as a reader would name it."""
    named = {10: "newline", 32: "space", 9: "tab", 0: "start of a file"}
    return named[byte] if byte in named else f"“{_glyph(byte)}”"


def pack(attention: np.ndarray) -> str:
    """attention[n_heads, length, length] as base64: one byte per visible pair, head by head, row by row.

    A weight w is stored as round(255 · √w): so small weights stay distinct, and none above 0.001 % is lost.
    """
    length = attention.shape[-1]
    rows, columns = np.tril_indices(length)
    packed = np.round(255 * np.sqrt(attention[:, rows, columns])).astype(np.uint8)
    return base64.b64encode(packed.tobytes()).decode("ascii")


def predictions(maps: Maps, text: bytes, n: int = 5) -> list[dict[str, object]]:
    """For each byte of the text: "top", the `n` likeliest next bytes with their probabilities, and "next", the byte
    that really follows with its probability (None after the last)."""
    probabilities = np.exp(maps.log_probabilities.astype(np.float64))
    order = np.argsort(-probabilities, axis=-1)[:, :n]
    out: list[dict[str, object]] = []
    for position in range(len(text)):
        row = probabilities[position]
        following = text[position + 1] if position + 1 < len(text) else None
        out.append(
            {
                "top": [[name_of(int(b)), round(float(row[b]), 4)] for b in order[position]],
                "next": None if following is None else [name_of(following), round(float(row[following]), 4)],
            }
        )
    return out
