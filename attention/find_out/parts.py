"""A guess, a worked problem, and the few ways to make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from attention.catalog import published
from attention.spec import ModelSpec
from attention.units import significant

H100 = "h100-sxm"


class Guess(NamedTuple):
    """A question with a few answers, asked before the reader tries it.

    Attributes:
        prompt, options: plain text; right: place of the right one.
        why: what there is to learn, one or two sentences that stand by themselves.
    """

    prompt: str
    options: tuple[str, ...]
    right: int
    why: str


class Problem(NamedTuple):
    """A worked problem.

    Attributes:
        asks: the question; working: how to get there, with the numbers put in; answer: as shown.
        by_hand: the working's result; computed: the same from the program's own arithmetic. They are equal.
    """

    asks: str
    working: str
    answer: str
    by_hand: float
    computed: float


class FindOut(NamedTuple):
    """All that a page asks. Three problems each."""

    guess: Guess
    problems: tuple[Problem, Problem, Problem]


def guess(prompt: str, right: float, wrong: Sequence[float], shown: Callable[[float], str], why: str) -> Guess:
    """A guess among numbers, in rising order; a wrong one that reads like another is left out."""
    values = sorted({shown(value): value for value in (*wrong, right)}.items(), key=lambda pair: pair[1])
    options = tuple(text for text, _ in values)
    return Guess(prompt, options, options.index(shown(right)), why)


def chosen(prompt: str, options: Sequence[str], right: str, why: str) -> Guess:
    """A guess among texts, in the order given."""
    return Guess(prompt, tuple(options), list(options).index(right), why)


@cache
def spec_of(model: str) -> ModelSpec:
    """A model of the catalogue whose sizes are published."""
    found = published.model(model).spec
    assert found is not None, model
    return found


def times(value: float) -> str:
    """A factor as an answer: "4,096 times"."""
    return f"{significant(value)} times"
