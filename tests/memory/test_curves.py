"""Curves are the memory module's sums at each point, and reach as far as is worth showing."""

from attention.memory import curves as cache_curves
from attention.memory import footprint, load
from attention.spec import Kind, Layer, ModelSpec, attention_layer, uniform_spec

FULL = attention_layer(14, 7, 13)
SLIDING = attention_layer(14, 2, 11, window=97)


def test_curves_add_up_and_leave_out_kinds_without_bytes() -> None:
    spec = ModelSpec("m", (FULL, SLIDING, Layer(Kind.SHARED, shares=0, n_heads=14), Layer(Kind.NONE)), "bf16")
    curves = cache_curves.curves_over_context(spec, (1, 97, 98, 1013), 3, "fp16")
    assert set(curves.by_kind) == {Kind.FULL, Kind.SLIDING}
    assert curves.total == tuple(footprint.cache_bytes(spec, s, 3, "fp16").state_bytes for s in curves.x)
    assert curves.by_kind[Kind.SLIDING][1] == curves.by_kind[Kind.SLIDING][3]
    over_batch = cache_curves.curves_over_batch(spec, (1, 2, 5), 1013, "fp16")
    assert over_batch.total == tuple(footprint.cache_bytes(spec, 1013, b, "fp16").state_bytes for b in (1, 2, 5))


def test_contexts_cover_the_range_and_hold_the_chosen_one() -> None:
    grid = cache_curves.contexts_up_to(131_072, 5003)
    assert grid[0] == 128
    assert grid[-1] == 131_072
    assert 5003 in grid
    assert list(grid) == sorted(set(grid))
    assert {1024, 8192, 65_536} <= set(grid)


def test_batches_around_the_chosen_one() -> None:
    assert cache_curves.batches_around(1) == (1, 2, 4, 8, 16)
    assert cache_curves.batches_around(12) == (1, 3, 6, 12, 24, 48, 96, 192)
    assert max(cache_curves.batches_around(load.MAX_BATCH)) == load.MAX_BATCH


def test_a_picture_holds_its_counterfactuals_and_the_crossing() -> None:
    spec = uniform_spec(3, 14, 7, 13)
    weights = footprint.sequence_bytes(spec, 150_000)
    picture = cache_curves.over_context(spec, footprint.cache_bytes(spec, 1013), weights)
    assert picture.chosen.state_bytes == footprint.sequence_bytes(spec, 1013)
    assert picture.crossover == footprint.crossover(spec, weights) == 150_001
    assert {1013, 150_001} <= set(picture.curves.x)
    assert picture.curves.x[-1] > 150_001
    assert [m / own for m, own in zip(picture.mha, picture.curves.total, strict=True)] == [2.0] * len(picture.mha)
    assert [own / m for m, own in zip(picture.mqa, picture.curves.total, strict=True)] == [7.0] * len(picture.mqa)
    assert picture.own == "GQA-7"
    far = cache_curves.over_context(spec, footprint.cache_bytes(spec, 1013), 10**15)
    assert far.curves.x[-1] == 131_072  # a crossing far outside does not stretch the axis


def test_a_model_that_is_a_counterfactual_itself_is_not_drawn_twice() -> None:
    mha, mqa = uniform_spec(3, 14, 14, 13), uniform_spec(3, 14, 1, 13)
    assert cache_curves.over_context(mha, footprint.cache_bytes(mha, 101)).mha == ()
    assert cache_curves.over_context(mqa, footprint.cache_bytes(mqa, 101)).mqa == ()
