"""A decode step by step: its frames, where the cache passes the weights, the paper's ratios."""

from __future__ import annotations

import numpy as np
import pytest

from attention.catalog import published
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.serving.decode import (
    FRAMES,
    Ratios,
    contexts,
    trace,
)
from attention.serving.roofline import decode_floor
from attention.spec import uniform_spec
from tests.published_specs import spec_of

LLAMA = spec_of("meta-llama/Llama-3.1-8B")
H100 = published.accelerator("h100-sxm")


def test_frames_are_the_roofline_s() -> None:
    found = trace(LLAMA, H100, Load(8191, 3))
    assert found.frames[0].context == 1
    assert found.frames[-1].context == 8191
    assert len(found.frames) == FRAMES
    last = decode_floor(LLAMA, H100, 8191, 3)
    frame = found.frames[-1]
    assert (frame.weight_bytes, frame.cache_bytes) == (last.weight_bytes, last.cache_bytes)
    assert (frame.flops, frame.time_s) == (last.floor.flops, last.floor.time_s)
    assert frame.moved_bytes == frame.weight_bytes + frame.cache_bytes
    assert frame.cache_bytes == 3 * sequence_bytes(LLAMA, 8191)


def test_crossover_is_where_the_cache_passes_the_weights() -> None:
    found = trace(LLAMA, H100, Load(16_384, 37))
    assert found.crossover is not None
    assert found.crossover_frame is not None
    at, before = found.frames[found.crossover_frame], found.frames[found.crossover_frame - 1]
    assert at.cache_bytes > at.weight_bytes
    assert before.context < found.crossover <= at.context
    weights = at.weight_bytes
    assert 37 * sequence_bytes(LLAMA, found.crossover) > weights
    assert 37 * sequence_bytes(LLAMA, found.crossover - 1) <= weights


def test_short_decodes_have_no_crossing_in_view() -> None:
    found = trace(LLAMA, H100, Load(5))
    assert [f.context for f in found.frames] == [1, 2, 3, 4, 5]
    assert found.crossover_frame is None
    assert found.crossover is not None
    assert trace(LLAMA, H100, Load(1)).frames[0].context == 1


def test_contexts_rise_evenly() -> None:
    steps = np.diff(contexts(100_003))
    assert steps.min() > 0
    assert steps.max() - steps.min() <= 1


def test_unknown_parameters_are_said() -> None:
    with pytest.raises(ValueError, match="n_parameters"):
        trace(uniform_spec(2, 4, 2, 8), H100, Load(10))


def test_ratios_of_the_paper() -> None:
    ratios = Ratios(n=1024, d=512, h=8, b=4)
    assert ratios.multi_head == 2.25
    assert ratios.multi_query == pytest.approx(1 / 512 + 0.25 + 0.25)
    assert ratios.grouped(1) == ratios.multi_query
    assert ratios.grouped(8) == pytest.approx(ratios.multi_head + 1 / 512)
