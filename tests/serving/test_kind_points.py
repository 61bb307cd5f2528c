"""Operations per byte of kinds of cache: worked by hand, for models of the catalogue, and as measured."""

from __future__ import annotations

import pytest

from attention.catalog import published
from attention.kernels.kinds.case import kind_bytes, kind_flops
from attention.serving import kind_points
from attention.serving.roofline_points import accelerator_roof
from attention.timing import kind_runs
from tests.published_specs import spec_of

H100 = published.accelerator("h100-sxm")
ROOF = accelerator_roof(H100, "bf16")
LONG = 2**20


def computed(model: str, context: int = LONG) -> dict[str, kind_points.KindPoint]:
    return {p.label: p for p in kind_points.computed(spec_of(model), context, 1, ROOF)}


def test_sharing_new_tokens_and_half_the_bytes_multiply_the_operations_per_byte() -> None:
    points = computed("meta-llama/Llama-3.1-8B")
    # 2 bytes an element, 2 operations for it and each query head that reads it
    by_hand: dict[str, float] = {
        "MHA": 1,
        "GQA-8": 4,
        "MQA": 32,
        "GQA-8, K = V": 8,
        "GQA-8, fp8-head": 8,
        "MLA, expanded": 1,
    }
    by_hand |= {f"GQA-8, {n} new tokens": 4 * n for n in (2, 4, 8)}
    # 128 heads · 2 · (576 + 512) operations over 2 · 576 bytes
    by_hand |= {"MLA, absorbed": 128 * 2 * (576 + 512) / (2 * 576)}
    by_hand |= {"GQA-8, q4_0": 4 * 16 / 4.5, "GQA-8, q8_0": 4 * 16 / 8.5}
    for label, expected in by_hand.items():
        assert points[label].intensity == pytest.approx(expected, rel=2e-3), label
    assert points["GQA-8, window"].intensity == pytest.approx(4, rel=1e-2)
    assert points["GQA-8"].note == "memory binds"
    assert points["GQA-8"].flops_per_s == pytest.approx(points["GQA-8"].intensity * H100.bytes_per_s)
    beyond = points["MLA, absorbed, 2 new tokens"]
    assert (beyond.note, beyond.flops_per_s) == ("arithmetic binds", ROOF.flops_per_s)
    assert {p.family for p in points.values()} == set(kind_points.FAMILIES)


def test_a_latent_model_has_its_own_sizes() -> None:
    spec = spec_of("deepseek-ai/DeepSeek-V2-Lite")
    cases = dict(kind_points.of_model(spec, 4096, 1))
    layer = spec.attention_layer
    assert layer is not None
    absorbed, expanded = cases["MLA, absorbed"], cases["MLA, expanded"]
    assert (absorbed.n_heads, absorbed.head_dim, absorbed.value_dim) == (layer.n_heads, 576, 512)
    assert (expanded.n_kv_heads, expanded.head_dim, expanded.value_dim) == (layer.n_heads, 192, 128)
    assert computed("deepseek-ai/DeepSeek-V2-Lite")["MLA, absorbed"].intensity == pytest.approx(
        layer.n_heads * 17 / 9, rel=0.01
    )


@pytest.mark.parametrize("model", ["google/gemma-3-27b-it", "openai-community/gpt2", "tiiuae/falcon-7b"])
@pytest.mark.parametrize(("context", "batch"), [(1, 1), (10_000_000, 100_000)])
def test_any_model_and_load_has_its_points(model: str, context: int, batch: int) -> None:
    spec = spec_of(model)
    points = kind_points.computed(spec, context, batch, ROOF)
    assert len({p.label for p in points}) == len(points) >= 8
    assert all(0 < p.intensity < 4000 and 0 < p.flops_per_s <= ROOF.flops_per_s for p in points)


def test_a_model_without_heads_has_none() -> None:
    assert kind_points.of_model(spec_of("tiiuae/falcon-mamba-7b"), 4096, 1) == ()


def test_what_was_measured_stands_under_its_own_roof_at_the_computed_intensity() -> None:
    (run,) = kind_runs.recorded()
    roof = kind_points.run_roof(run)
    assert roof is not None
    assert roof.measured
    points = kind_points.measured(run)
    assert len({p.label for p in points}) == len(points)
    assert {"MHA", "GQA-8", "MLA, absorbed", "MLA, expanded", "Sparse (DSA)", "GQA-8, 8 new tokens"} <= {
        p.label for p in points
    }
    for point in points:
        assert point.measured
        allowed = min(roof.flops_per_s, point.intensity * roof.bytes_per_s)
        assert 0 < point.flops_per_s <= allowed * 1.001, point
    one = next(p for p in points if p.label == "MLA, absorbed")
    timed = next(
        r
        for r in run.results
        if r.case.kind == "latent" and r.median_s and kind_flops(r.case) / r.median_s == one.flops_per_s
    )
    assert one.intensity == kind_flops(timed.case) / kind_bytes(timed.case)
    assert f"context {timed.case.context:,}, batch {timed.case.batch}" in one.note


def test_ridges_are_the_data_sheets_in_rising_order() -> None:
    ridges = kind_points.ridges(published.accelerators())
    assert [r.intensity for r in ridges] == sorted(r.intensity for r in ridges)
    own = next(r for r in ridges if r.label == H100.label)
    assert own.intensity == pytest.approx(ROOF.ridge)
    below, above = kind_points.beside_ridges(computed("deepseek-ai/DeepSeek-V3")["MLA, absorbed"], ridges)
    assert own in above
    assert published.accelerator("a100-80gb").label in {r.label for r in below}
    assert len(below) + len(above) == len(ridges)
