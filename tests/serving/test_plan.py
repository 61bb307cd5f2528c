"""The page's answers are those of fit and roofline, and the numbers it solves for are the last that fit."""

from dataclasses import replace

import pytest

from attention.catalog import published
from attention.serving import fit
from attention.serving import plan as serving
from attention.serving.fit import Setup
from attention.spec import ModelSpec, uniform_spec

SPEC = replace(uniform_spec(3, 14, 7, 13, name="small"), n_parameters=10_007, model_dtype="bf16")
SETUP = Setup(replace(published.accelerators()[0], memory_bytes=10**8), reserve_bytes=0)


def test_the_solved_numbers_are_the_last_that_fit() -> None:
    plan = serving.plan(SPEC, SETUP, 1013, 5)
    assert plan.fits
    assert plan.largest_context is not None
    assert fit.fits(SPEC, SETUP, plan.largest_context, 5)
    assert not fit.fits(SPEC, SETUP, plan.largest_context + 1, 5)
    assert fit.fits(SPEC, SETUP, 1013, plan.largest_batch)
    assert not fit.fits(SPEC, SETUP, 1013, plan.largest_batch + 1)
    assert plan.smallest_count == 1
    assert plan.floor.batch == 5


def test_an_unknown_parameter_count_is_said() -> None:
    with pytest.raises(ValueError, match="n_parameters of small is not known"):
        serving.plan(replace(SPEC, n_parameters=None), SETUP, 1013, 5)


def test_the_map_agrees_with_its_frontier() -> None:
    numbers = serving.fit_map(SPEC, SETUP, 1013, 5)
    frontier = dict(zip(numbers.contexts, numbers.frontier, strict=True))
    for column, context in enumerate(numbers.grid.contexts):
        for row, batch in enumerate(numbers.grid.batches):
            assert numbers.grid.fits[row][column] == (batch <= frontier[context])


@pytest.mark.parametrize(("context", "batch"), [(1013, 5), (2**20, 1024)])
def test_the_bar_holds_the_whole_memory(context: int, batch: int) -> None:
    budget = fit.budget(SPEC, SETUP)
    states = fit.state_bytes_per_rank(SPEC, SETUP, context, batch)
    bar = serving.memory_bar(budget, states)
    assert bar.weights + bar.states + bar.reserve + bar.free + bar.unused - bar.over == bar.memory
    assert (bar.over > 0) != fit.fits(SPEC, SETUP, context, batch)
    assert not (bar.over and bar.free)


def test_every_accelerator_has_a_row_and_a_bound_where_it_fits() -> None:
    llama = published.model("Llama 3.1 405B").spec
    assert isinstance(llama, ModelSpec)
    rows = serving.every_accelerator(llama, SETUP, 8192, 1)
    assert len(rows) == len(published.accelerators())
    for row in rows:
        assert (row["count"] is None) == (row["tokens_per_s"] is None)
    # 405 billion parameters in bf16 are 811 GB: more than 8 of the 80 GB cards hold
    assert {r["accelerator"]: r["count"] for r in rows}["H100 SXM 80 GB"] == 16
