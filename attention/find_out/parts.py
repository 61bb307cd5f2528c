"""What a guess and a worked problem are, and functions that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from attention.catalog import published
from attention.spec import ModelSpec
from attention.units import significant

H100 = "h100-sxm"


class Guess(NamedTuple):
    """A question with a few answers, asked before the reader tries the page.

    Attributes:
        prompt: the question, as plain text.
        options: the answers, as plain text.
        right: the index of the right answer.
        why: what it teaches, in one or two sentences that need no others.
    """

    prompt: str
    options: tuple[str, ...]
    right: int
    why: str


class Problem(NamedTuple):
    """A worked problem.

    Attributes:
        asks: the question.
        working: the calculation with its numbers.
        answer: the answer as shown.
        by_hand: the result of the working.
        computed: the result of the program's own arithmetic, equal to `by_hand`.
    """

    asks: str
    working: str
    answer: str
    by_hand: float
    computed: float


class FindOut(NamedTuple):
    """All that a page asks: a guess and three problems."""

    guess: Guess
    problems: tuple[Problem, Problem, Problem]


def guess(prompt: str, right: float, wrong: Sequence[float], shown: Callable[[float], str], why: str) -> Guess:
    """A guess among numbers, in rising order. Of numbers that look the same when shown, only one is an option."""
    values = sorted({shown(value): value for value in (*wrong, right)}.items(), key=lambda pair: pair[1])
    options = tuple(text for text, _ in values)
    return Guess(prompt, options, options.index(shown(right)), why)


def chosen(prompt: str, options: Sequence[str], right: str, why: str) -> Guess:
    """A guess among texts, in the order of `options`."""
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
