"""The rows that each matrix is multiplied with, worked by hand on a device of round numbers."""

from __future__ import annotations

import pytest

from attention.catalog.published import Accelerator
from attention.floor import COMPUTE, MEMORY
from attention.memory.load import Load
from attention.serving.decode import prefill_trace, trace
from attention.serving.queries import meetings
from attention.spec import Kind, Layer, attention_layer, uniform_spec

TOY = Accelerator("toy", "toy", "none", 10**9, 1000.0, {"bf16": 20_000.0}, "made up", "2026-11-27")


def test_sharing_makes_more_rows_in_decode_and_prefill_has_rows_enough() -> None:
    one, prompt = meetings(attention_layer(10, 10, 7), Load(13), TOY)
    shared, shared_prompt = meetings(attention_layer(10, 2, 7), Load(13), TOY)
    assert (one.rows, prompt.rows, shared.rows, shared_prompt.rows) == (1, 13, 5, 65)
    # 13 tokens of 2 x 7 elements in 2 bytes for each of 10 K/V heads; two operations each
    assert (one.floor.moved_bytes, one.floor.flops) == (10 * 13 * 14 * 2, 10 * 13 * 14 * 2)
    assert (shared.floor.moved_bytes, shared.floor.flops) == (one.floor.moved_bytes // 5, one.floor.flops)
    assert one.floor.binds == shared.floor.binds == MEMORY
    assert (one.memory_busy, one.processor_busy) == (1, pytest.approx(1 / 20))
    assert shared.processor_busy == pytest.approx(5 / 20)
    # 1 + … + 13 = 91 keys are met: 7 for each that is read, of 20 that would keep the processor busy; shared, 35
    assert prompt.processor_busy == pytest.approx(7 / 20)
    assert (shared_prompt.floor.binds, shared_prompt.memory_busy) == (COMPUTE, pytest.approx(20 / 35))


def test_a_layer_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps no keys"):
        meetings(Layer(Kind.NONE, ()), Load(13), TOY)


def test_a_prompt_keeps_the_processor_busy_from_where_its_frames_say() -> None:
    spec = uniform_spec(3, 10, 5, 7, name="tiny").with_parameters(1_000_003)
    found = prefill_trace(spec, TOY, Load(50, batch=11))
    assert [frame.context for frame in found.frames] == list(range(1, 51))
    # a weight of 2 bytes takes 2 operations for each token: 20 of them, and a few more for what is written
    assert found.crossover_frame is not None
    assert found.crossover == found.frames[found.crossover_frame].context
    assert {frame.binds for frame in found.frames[: found.crossover_frame]} == {MEMORY}
    assert {frame.busy for frame in found.frames[found.crossover_frame :]} == {1.0}
    assert 18 <= found.crossover <= 22
    assert found.frames[0].busy == pytest.approx(1 / 20, rel=0.01)
    assert all(frame.busy == pytest.approx(1 / 20, rel=0.2) for frame in trace(spec, TOY, Load(50)).frames)
