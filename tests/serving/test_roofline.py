"""The floor of a decode step, worked by hand on a device of round numbers."""

import pytest

from attention.catalog.published import Accelerator, accelerator, model
from attention.floor import COMPUTE, MEMORY, floor
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.serving.roofline import (
    attainable_flops_per_s,
    attention_floor,
    batch_where_compute_binds,
    cache_share,
    compute_peak,
    decode_floor,
    layer_flops,
    ridge,
    traffic_crossover,
)
from attention.sharing import with_n_kv_heads
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role, attention_layer, latent_layer
from tests.published_specs import spec_of

TOY = Accelerator("toy", "toy", "none", 10**9, 1000.0, {"bf16": 2000.0}, "made up", "2026-11-23")
SPEC = ModelSpec("m", (attention_layer(6, 3, 5),) * 2, "bf16", n_parameters=101)


def test_the_larger_time_binds() -> None:
    memory = floor(1000, 500, 100.0, 100.0)
    assert (memory.time_s, memory.binds, memory.compute_s, memory.intensity) == (10.0, MEMORY, 5.0, 0.5)
    compute = floor(1000, 5000, 100.0, 100.0)
    assert (compute.time_s, compute.binds, compute.memory_s) == (50.0, COMPUTE, 10.0)
    unknown = floor(1000, 5000, 100.0, None)
    assert (unknown.time_s, unknown.binds, unknown.compute_s) == (10.0, MEMORY, None)
    with pytest.raises(ValueError, match="must be above 0, got 0 and None"):
        floor(1, 1, 0, None)


def test_one_layer_reads_each_kv_head_once() -> None:
    result = attention_floor(6, 3, 5, 7, 11, "bf16", 1000.0, 1e9)
    # K and V of 3 heads over 7 tokens, q and the output of 6 heads, 2 bytes each
    assert result.moved_bytes == 11 * 2 * (2 * 3 * 5 * 7 + 2 * 6 * 5)
    # q·K and p·V: a multiply and an add for each of 6 x 7 x 5, twice
    assert result.flops == 11 * 4 * 6 * 7 * 5
    # sharing heads saves bytes, not operations
    shared = attention_floor(6, 1, 5, 7, 11, "bf16", 1000.0, 1e9)
    assert shared.flops == result.flops
    assert shared.moved_bytes < result.moved_bytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, 4, 5, 7, 1, "bf16"), "n_kv_heads must divide n_heads = 6, got 4"),
        ((6, 3, 0, 7, 1, "bf16"), "head_dim must be between 1"),
        ((6, 3, 5, 0, 1, "bf16"), "context must be between 1"),
        ((6, 3, 5, 7, 1, "bf17"), "dtype must be one of fp32, .*got 'bf17'"),
    ],
)
def test_sizes_out_of_range_are_named(arguments: tuple[int, int, int, int, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_floor(*arguments, 1.0, 1.0)


def test_operations_of_each_kind_of_layer() -> None:
    assert layer_flops(attention_layer(6, 3, 5), 7) == 2 * 6 * 7 * 10
    assert layer_flops(attention_layer(6, 3, 5, window=4), 7) == 2 * 6 * 4 * 10
    # in the latent space: scores over rank + RoPE, values over the rank
    assert layer_flops(latent_layer(6, 31, 7, 11, 13), 5) == 2 * 6 * 5 * (31 + 7 + 31)
    one_vector = PositionState(Role.COMPRESSED, 1, 7, 0, stride=2)
    assert layer_flops(Layer(Kind.COMPRESSED, (one_vector,), 6, 7, 7), 9) == 2 * 6 * 4 * (7 + 7)
    states = (FixedState(Role.CONVOLUTION, 19), FixedState(Role.RECURRENT, 23))
    assert layer_flops(Layer(Kind.RECURRENT, states), 9) == 2 * 19 + 4 * 23
    cross = (PositionState(Role.KEY_VALUE, 3, 5, 5), PositionState(Role.CROSS, 3, 5, 5))
    assert layer_flops(Layer(Kind.CROSS, cross, 6, 5, 5), 7, encoder_context=11) == 2 * 6 * (7 + 11) * 10


def test_a_step_by_hand() -> None:
    step = decode_floor(SPEC, TOY, 7, 11)
    assert (step.weight_bytes, step.cache_bytes) == (202, 11 * 2 * 3 * 10 * 7 * 2)
    assert (step.weight_flops, step.attention_flops) == (2 * 101 * 11, 11 * 2 * 2 * 6 * 7 * 10)
    # 9,442 bytes at 1,000 a second; 20,702 operations at 2,000 a second
    assert step.floor.binds == COMPUTE
    assert step.floor.time_s == pytest.approx(20702 / 2000)
    assert step.tokens_per_s == pytest.approx(11 * 2000 / 20702)
    assert step.sequence_tokens_per_s == pytest.approx(2000 / 20702)


def test_ranks_share_the_work_but_copy_heads() -> None:
    two = ModelSpec("m", (attention_layer(4, 2, 5),), "bf16", n_parameters=100)
    one, ranks = decode_floor(two, TOY, 7), decode_floor(two, TOY, 7, count=4)
    assert ranks.weight_bytes * 4 == one.weight_bytes
    assert ranks.cache_bytes * 2 == one.cache_bytes  # 2 K/V heads: 4 ranks keep one each


def test_recurrent_states_are_read_and_written() -> None:
    spec = ModelSpec("m", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 23, "fp32"),)),), "bf16", n_parameters=7)
    step = decode_floor(spec, TOY, 1000, 3)
    assert (step.cache_bytes, step.written_bytes) == (3 * 23 * 4, 3 * 23 * 4)
    assert step.floor.moved_bytes == 2 * 3 * 23 * 4 + step.weight_bytes


def test_experts_that_sleep_are_not_read_and_it_says_so() -> None:
    spec = ModelSpec("m", SPEC.layers, "bf16", n_parameters=101, n_active_parameters=11)
    assert decode_floor(spec, TOY, 7).weight_bytes == 22
    assert not any("experts" in note for note in decode_floor(spec, TOY, 7).notes)
    assert "more experts" in decode_floor(spec, TOY, 7, 2).notes[0]


def test_narrow_weights_are_computed_in_what_the_device_has() -> None:
    peaks = {"fp32": 1.0, "fp16": 2.0, "int8": 3.0}
    assert [compute_peak(peaks, d) for d in ("int8", "int4", "fp8", "bf16", "fp32")] == [3.0, 2.0, 2.0, 2.0, 1.0]
    assert compute_peak({}, "bf16") is None


def test_where_the_cache_overtakes_the_weights() -> None:
    spec = model("meta-llama/Llama-3.1-8B").spec
    assert spec is not None
    context = traffic_crossover(spec, "bf16", "bf16")
    # of the table of input embeddings, 128,256 x 4,096, only one row is read
    read = 8_030_261_248 - 128_256 * 4096 + 4096
    assert context == 2 * read // 131_072 + 1 == 114_517
    assert sequence_bytes(spec, context) > 2 * read >= sequence_bytes(spec, context - 1)
    assert cache_share(spec, Load(context), "bf16") == pytest.approx(0.5, abs=1e-4)
    mamba = model("tiiuae/falcon-mamba-7b").spec
    assert mamba is not None
    assert traffic_crossover(mamba, "bf16", "bf16") is None


def test_the_roof() -> None:
    h100 = accelerator("h100-sxm")
    peak = h100.flops_per_s["bf16"]
    edge = ridge(h100.bytes_per_s, peak)
    assert edge == pytest.approx(295.4, abs=0.1)
    assert attainable_flops_per_s(edge / 2, h100.bytes_per_s, peak) == pytest.approx(peak / 2)
    assert attainable_flops_per_s(edge * 2, h100.bytes_per_s, peak) == peak
    assert attainable_flops_per_s(1.0, 100.0, None) == 100.0
    # each bf16 weight of 2 bytes does 2 operations per sequence, so the batch is the ridge itself
    assert batch_where_compute_binds(h100, "bf16") == int(edge) + 1


def test_without_a_parameter_count_nothing_is_guessed() -> None:
    spec = ModelSpec("m", SPEC.layers, "bf16")
    for call in (lambda: decode_floor(spec, TOY, 7), lambda: traffic_crossover(spec, "bf16", "bf16")):
        with pytest.raises(ValueError, match="n_parameters of m is not known"):
            call()


def test_a_step_reads_what_an_indexer_picks() -> None:
    latent = PositionState(Role.LATENT, 1, 3, 1, reads=10)
    indexer = PositionState(Role.INDEXER, 1, 5, 0)
    spec = ModelSpec("m", (Layer(Kind.LATENT, (latent, indexer), 2, 4, 3),), "bf16", n_parameters=101)
    # held: all entries of both; read: 10 latents of 4, and every key of the indexer, 2 bytes each
    assert sequence_bytes(spec, 100) == 100 * (4 + 5) * 2
    assert decode_floor(spec, TOY, 100).cache_bytes == (10 * 4 + 100 * 5) * 2
    assert decode_floor(spec, TOY, 7).cache_bytes == sequence_bytes(spec, 7)
    # two heads, each with 3 + 1 for the key and 3 for the value
    assert decode_floor(spec, TOY, 100).attention_flops == 2 * 2 * 10 * 7
    # 202 bytes of weights: 80 of latents and 10 a token
    assert traffic_crossover(spec, "bf16", "bf16") == 13
    assert "an indexer picks" in " ".join(decode_floor(spec, TOY, 100).notes)


@pytest.mark.parametrize(("id_", "picked"), [("deepseek-ai/DeepSeek-V3.2", 2048), ("zai-org/GLM-5", 2048)])
def test_a_published_indexer_bounds_what_is_read(id_: str, picked: int) -> None:
    spec = spec_of(id_)
    read, held = decode_floor(spec, TOY, 131_072).cache_bytes, sequence_bytes(spec, 131_072)
    assert read == spec.n_layers * 2 * (picked * 576 + 131_072 * 128)
    assert held == spec.n_layers * 2 * 131_072 * (576 + 128)
    # the counterfactual has no indexer to pick entries
    assert decode_floor(with_n_kv_heads(spec, None), TOY, 131_072).cache_bytes > held
