"""The words of the field and the words that each page uses, from ``glossary.toml``."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("glossary.toml")


class Word(NamedTuple):
    """One word.

    Attributes:
        short: the word as texts write it. also: its other forms.
        long: the abbreviation spelt out; empty if the word is no abbreviation.
        says: its meaning in one plain sentence.
        quiet: whether the row under a title shows it only when it is asked for more words.
    """

    short: str
    long: str
    says: str
    also: tuple[str, ...] = ()
    quiet: bool = False

    @property
    def forms(self) -> tuple[str, ...]:
        """All forms of the word, within a sentence and at its beginning."""
        return tuple(dict.fromkeys(f for form in (self.short, *self.also) for f in (form, form[0].upper() + form[1:])))


@cache
def _file() -> tuple[dict[str, Word], dict[str, tuple[str, ...]]]:
    with FILE.open("rb") as opened:
        read = tomllib.load(opened)
    words = {
        row["short"]: Word(
            row["short"], row.get("long", ""), row["says"], tuple(row.get("also", ())), row.get("quiet", False)
        )
        for row in read["word"]
    }
    return words, {page: tuple(names) for page, names in read["pages"].items()}


def words() -> tuple[Word, ...]:
    """All words, in the file's order."""
    return tuple(_file()[0].values())


def of_page(page: str) -> tuple[Word, ...]:
    """The words that a page uses, in the order of its list; none for a page without a list.

    Raises:
        KeyError: the list names a word that the file does not explain.
    """
    known, pages = _file()
    return tuple(known[name] for name in pages.get(page, ()))


def found(text: str) -> set[str]:
    """`short` of every word that occurs in `text`, in any of its forms."""
    return {word.short for word in words() if _pattern(word).search(text)}


@cache
def _pattern(word: Word) -> re.Pattern[str]:
    # "GQA" is found in "GQA-8", but "K/V" not in "QK/V"; a hyphen before a word makes it another word
    return re.compile(rf"(?<![\w/-])(?:{'|'.join(map(re.escape, word.forms))})(?![\w/])")
