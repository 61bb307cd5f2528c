"""Every guess has one right answer and every worked problem comes out as the program computes it."""

from __future__ import annotations

import pytest

from attention.find_out.pages import PAGES, of_page


@pytest.mark.parametrize("page", PAGES)
def test_the_working_gives_what_the_program_computes(page: str) -> None:
    found = of_page(page)
    assert len(found.problems) == 3
    for problem in found.problems:
        # floats: the same few operations in another order
        assert problem.by_hand == pytest.approx(problem.computed, rel=1e-12), problem.asks
        assert problem.asks.endswith(("?", ".", ")"))
        assert any(c.isdigit() for c in problem.answer)


@pytest.mark.parametrize("page", PAGES)
def test_a_guess_has_distinct_options_and_says_why(page: str) -> None:
    guess = of_page(page).guess
    assert 3 <= len(guess.options) <= 4, guess.options
    assert len(set(guess.options)) == len(guess.options)
    assert 0 <= guess.right < len(guess.options)
    assert guess.prompt.endswith("?")
    assert guess.why.endswith(".")


def test_right_answers_do_not_all_stand_in_one_place() -> None:
    assert len({of_page(page).guess.right for page in PAGES}) >= 3
