"""Bars are drawn from the numbers given and state them."""

import pytest

from attention.catalog import published
from attention.memory import allocation
from attention.memory.counterfactuals import Variant, variants
from attention.memory.footprint import cache_bytes
from attention.memory.waterfall import Step as Idea
from attention.serving import plan as serving
from attention.serving.fit import Setup
from attention.spec import Kind, Layer, ModelSpec, uniform_spec
from attention.timing import sharings
from attention.timing.sharings import SharingTime
from tests.timing_samples import timed
from viz import bars
from viz.spectrum import Quality
from viz.theme import SHARING_COLORS


def spec_of(name: str) -> ModelSpec:
    spec = published.model(name).spec
    assert spec is not None
    return spec


def test_ways_to_share():
    own, mqa = bars.ends((Variant("GQA-8", 8, 2**30, True), Variant("MQA", 1, 2**27, False)))
    assert (own.label, own.text, own.end, own.own) == ("GQA-8", "1.00 GiB", 2**30, True)
    assert (mqa.label, mqa.text, mqa.color, mqa.own) == ("MQA", "128 MiB", SHARING_COLORS["MQA"], False)


def test_times_are_compared_with_the_first_and_missing_ones_wait():
    mha = timed([4e-3, 4.1e-3, 3.9e-3, 4e-3, 4e-3, 4e-3], n_kv_heads=77)
    gqa = timed([1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3], n_kv_heads=7)
    rows = (SharingTime("MHA", 77, False, mha), SharingTime("GQA-7", 7, True, gqa), SharingTime("MQA", 1, False))
    first, second, third = bars.times(rows)
    assert (first.text, first.end, first.spread, first.pale) == ("4.00 ms", 4e-3, (mha.iqr_s or 0) / 2, False)
    assert (second.text, second.own) == ("1.00 ms · 4.00× as fast (3.90–4.10)", True)
    assert (third.text, third.end) == ("…", 0.0)


def test_what_is_not_steady_is_pale_and_not_compared():
    mha = timed([4e-3] * 6, n_kv_heads=77, unsteady="other processes took 40% of the processor")
    gqa = timed([1e-3] * 6, n_kv_heads=7)
    first, second = bars.times((SharingTime("MHA", 77, False, mha), SharingTime("GQA-7", 7, True, gqa)))
    assert (first.pale, second.pale) == (True, False)
    assert second.text == "1.00 ms"


def test_times_of_a_run():
    cases = sharings.timed_cases(uniform_spec(1, 6, 3, 7).layers[0], 64)
    assert [bar.text for bar in bars.times(sharings.times(cases, [], 3))] == ["…", "…", "…"]


def test_variants_are_set_beside_the_model():
    rows = variants(spec_of("Gemma 3 27B"), cache_bytes(spec_of("Gemma 3 27B"), 8192, 2))
    drawn = bars.variants(rows)
    assert [bar.end for bar in drawn] == [row.state_bytes for row in rows]
    assert [bar.pale for bar in drawn] == [not row.is_model for row in rows]
    assert sum("this model" in bar.text for bar in drawn) == 1


def test_a_model_that_keeps_nothing_has_no_bars():
    nothing = ModelSpec("nothing", (Layer(Kind.NONE),))
    assert bars.variants(variants(nothing, cache_bytes(nothing, 8192))) == ()
    assert bars.allocation(()) == ()


@pytest.mark.parametrize("pool", allocation.WINDOW_POOLS)
def test_what_an_engine_sets_aside_adds_up(pool):
    aside = allocation.allocate(spec_of("Gemma 3 27B"), 8192, 2, tp=32, window_pool=pool)
    first, *steps, total = bars.allocation(aside.steps)
    assert (first.start, first.end, total.start, total.end) == (0, aside.state_bytes, 0, aside.allocated_bytes)
    at = first.end
    for bar in steps:
        assert bar.start == at
        assert bar.text[0] == ("−" if bar.end < at else "+")
        assert bar.color == (bars.SAVED if bar.end < at else bars.ADDED)
        at = bar.end
    assert at == aside.allocated_bytes


@pytest.mark.parametrize("batch", [4, 4000])
def test_an_accelerator_s_memory_adds_up(batch):
    setup = Setup(published.accelerator("h100-sxm"))
    plan = serving.plan(spec_of("Llama 3.1 8B"), setup, 8192, batch)
    parts = serving.memory_bar(plan.budget, plan.state_bytes)
    weights, cache, reserve, rest, last = bars.memory(parts)
    assert [bar.end - bar.start for bar in (weights, cache, reserve)] == [parts.weights, parts.states, parts.reserve]
    assert (weights.start, cache.start, reserve.start) == (0, weights.end, cache.end)
    limit = plan.budget.usable_bytes
    if parts.over:
        assert (rest.label, rest.start, rest.end) == ("too much", limit, reserve.end)
        assert (last.start, last.end) == (0, limit)
    else:
        assert (rest.label, rest.start, rest.end) == ("free", reserve.end, limit)
        assert (last.start, last.end) == (limit, parts.memory)
    assert bool(parts.over) == (batch == 4000)


def test_published_rows_keep_their_figures():
    rows = [Quality("MHA-XXL", 1.51, 47.2), Quality("GQA-8-XXL", 0.28, 47.1)]
    first, second = bars.published(rows, "GQA-8-XXL")
    assert (first.text, first.end, first.own) == ("1.51 s · 47.2", 1.51, False)
    assert (second.text, second.color, second.own) == ("0.28 s · 47.1", SHARING_COLORS["GQA"], True)


def test_a_waterfall_ends_where_each_idea_leaves_it() -> None:
    steps = (Idea("as MHA", 2**33), Idea("windows", 2**31), Idea("stored as fp8", 2**30))
    found = bars.waterfall(steps)
    assert [(b.start, b.end) for b in found] == [(0, 2**33), (2**33, 2**31), (2**31, 2**30), (0, 2**30)]
    assert [b.text for b in found][:2] == ["8.00 GiB", "2.00 GiB left, 4.00× smaller"]
    assert found[-1].own
    assert bars.waterfall(()) == ()
