"""Exact bytes: sizes worked out by hand, published figures, and laws that hold for every model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.catalog.published import model
from attention.formats import FORMATS
from attention.memory.footprint import (
    cache_bytes,
    context_where,
    layers_bytes,
    sequence_bytes,
)
from attention.sharing import divisors, with_n_kv_heads
from attention.spec import ModelSpec, uniform_spec
from attention.states import FixedState, Kind, Layer, PositionState, Role, attention_layer, latent_layer

GIB = 2**30


def spec_of(name: str) -> ModelSpec:
    spec = model(name).spec
    assert spec is not None
    return spec


def test_full_attention_by_hand() -> None:
    spec = uniform_spec(3, 14, 7, 5)
    # 3 layers x 7 heads x (5 + 5) elements x 11 tokens x 2 bytes
    assert cache_bytes(spec, 11, 13).sequence_bytes == 3 * 7 * 10 * 11 * 2
    assert cache_bytes(spec, 11, 13).state_bytes == 13 * 3 * 7 * 10 * 11 * 2
    assert cache_bytes(spec, 11).bytes_per_token == 3 * 7 * 10 * 2


def test_a_window_stops_growing() -> None:
    spec = uniform_spec(1, 2, 1, 3, window=17)
    assert [sequence_bytes(spec, n) for n in (16, 17, 18, 10_000)] == [192, 204, 204, 204]
    assert cache_bytes(spec, 16).bytes_per_token == 12
    assert cache_bytes(spec, 17).bytes_per_token == 0


def test_a_latent_vector_is_kept_once() -> None:
    spec = ModelSpec("m", (latent_layer(17, 31, 7, 11, 13),))
    assert sequence_bytes(spec, 5) == 5 * (31 + 7) * 2


def test_a_compressed_layer_keeps_whole_blocks_and_its_window() -> None:
    states = (PositionState(Role.KEY_VALUE, 1, 7, 0, window=5), PositionState(Role.COMPRESSED, 1, 7, 0, stride=3))
    spec = ModelSpec("m", (Layer(Kind.COMPRESSED, states, 11, 7, 7),))
    assert [sequence_bytes(spec, n) // 14 for n in (1, 3, 5, 6, 11)] == [1, 4, 6, 7, 8]


def test_recurrent_states_follow_their_own_dtype() -> None:
    states = (FixedState(Role.CONVOLUTION, 19), FixedState(Role.RECURRENT, 23, "fp32"))
    layers = (Layer(Kind.RECURRENT, states), attention_layer(2, 1, 3))
    result = cache_bytes(ModelSpec("m", layers, model_dtype="bf16"), 5, kv_dtype="fp8")
    assert result.fixed_bytes == 19 * 2 + 23 * 4
    assert result.sequence_bytes == result.fixed_bytes + 5 * 6
    assert result.by_kind == {Kind.RECURRENT: 130, Kind.FULL: 30}


def test_recurrent_states_of_unknown_dtype_are_refused_not_guessed() -> None:
    spec = ModelSpec("m", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 23),)),))
    assert sequence_bytes(spec, 1, "fp32") == 23 * 4
    with pytest.raises(ValueError, match="torch_dtype is not stated"):
        sequence_bytes(spec, 1, "int8")


def test_cross_attention_keeps_the_source() -> None:
    cross = PositionState(Role.CROSS, 3, 5, 5)
    own = PositionState(Role.KEY_VALUE, 3, 5, 5)
    spec = ModelSpec("m", (Layer(Kind.CROSS, (own, cross), 3, 5, 5),))
    result = cache_bytes(spec, 7, encoder_context=11)
    assert (result.fixed_bytes, result.bytes_per_token, result.sequence_bytes) == (11 * 60, 60, 18 * 60)


# published figures: per-token sizes from FACTS of the families (16-bit cache), totals from the threads they were
# reported in; the recurrent states of Qwen3.5 come on top of its 16 GiB
@pytest.mark.parametrize(
    ("name", "context", "bytes_per_token"),
    [
        ("meta-llama/Llama-2-7b-hf", 1000, 524_288),
        ("meta-llama/Llama-2-70b-hf", 1000, 327_680),
        ("meta-llama/Llama-3.1-8B", 131_072, 131_072),
        ("mistralai/Mixtral-8x7B-v0.1", 1000, 131_072),
        ("meta-llama/Llama-3.1-405B", 1000, 516_096),
        ("meta-llama/Llama-3.2-1B", 1000, 32_768),
        ("meta-llama/Llama-3.2-3B", 1000, 114_688),
        ("Qwen/Qwen2.5-7B", 1000, 57_344),
        ("Qwen/Qwen3-235B-A22B", 1000, 192_512),
        ("google/gemma-2b", 1000, 18_432),
        ("google/gemma-7b", 1000, 458_752),
        ("tiiuae/falcon-7b", 1000, 8_192),
        ("tiiuae/falcon-40b", 1000, 122_880),
        ("bigcode/starcoder", 1000, 20_480),
        ("openai-community/gpt2", 1000, 36_864),
        ("bigscience/bloom", 1000, 4_014_080),
        ("deepseek-ai/DeepSeek-V3", 1000, 70_272),
        ("deepseek-ai/DeepSeek-R1", 163_840, 70_272),
        ("deepseek-ai/DeepSeek-V2-Lite", 1000, 31_104),
        ("zai-org/GLM-4.5", 1000, 376_832),
        ("openai/gpt-oss-120b", 127, 73_728),
        ("openai/gpt-oss-120b", 128, 36_864),
        ("google/gemma-3-27b-it", 1023, 507_904),
        ("google/gemma-3-27b-it", 1024, 81_920),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 1000, 24_576),
    ],
)
def test_published_growth_per_token(name: str, context: int, bytes_per_token: int) -> None:
    assert cache_bytes(spec_of(name), context).bytes_per_token == bytes_per_token


@pytest.mark.parametrize(
    ("name", "context", "gib"),
    [
        ("meta-llama/Llama-3.1-8B", 131_072, 16.0),
        ("google/gemma-3-27b-it", 131_072, 10.41),
        ("google/gemma-3-1b-it", 32_768, 139 / 1024),
        ("deepseek-ai/DeepSeek-V3.1", 163_840, 10.72),
    ],
)
def test_published_totals(name: str, context: int, gib: float) -> None:
    # the threads print two decimals
    assert cache_bytes(spec_of(name), context).state_bytes / GIB == pytest.approx(gib, abs=0.005)


def test_published_total_of_a_hybrid() -> None:
    result = cache_bytes(spec_of("Qwen/Qwen3.5-27B"), 262_144)
    assert result.by_kind[Kind.FULL] == 16 * GIB
    assert 0 < result.fixed_bytes == result.by_kind[Kind.RECURRENT] < GIB // 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "context must be between 1 and 4,294,967,296, got 0"),
        ((10**12,), "context must be between 1 and 4,294,967,296, got 1000000000000"),
        ((1, 0), "batch must be between 1 and 1,048,576, got 0"),
        ((1.5,), "context must be a whole number, got 1.5"),
        ((1, 1, "bf17"), "kv_dtype must be one of"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cache_bytes(uniform_spec(1, 1, 1, 1), *arguments)


def test_counterfactuals_keep_windows_and_expand_latents() -> None:
    spec = ModelSpec("m", (attention_layer(12, 4, 5, window=7), latent_layer(12, 31, 7, 11, 13)))
    mha, mqa = with_n_kv_heads(spec, None), with_n_kv_heads(spec, 1)
    assert mha.layers[0] == attention_layer(12, 12, 5, window=7)
    assert mha.layers[1] == attention_layer(12, 12, 18, v_head_dim=13)
    assert mqa.layers[1].n_kv_heads == 1
    assert (mha.name, mqa.name, with_n_kv_heads(spec, 3).name) == ("m as MHA", "m as MQA", "m as GQA-3")
    with pytest.raises(ValueError, match="n_kv_heads must divide n_heads = 12, got 5"):
        with_n_kv_heads(spec, 5)


def test_divisors() -> None:
    assert divisors(28) == (1, 2, 4, 7, 14, 28)


_LAYER = st.one_of(
    st.builds(
        lambda kv, group, dim, window: attention_layer(kv * group, kv, dim, window),
        st.integers(1, 7),
        st.integers(1, 5),
        st.integers(1, 97),
        st.none() | st.integers(1, 300),
    ),
    st.builds(
        lambda elements, dtype: Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, elements, dtype),)),
        st.integers(1, 997),
        st.sampled_from(["fp32", "bf16"]),
    ),
    st.builds(latent_layer, st.integers(1, 7), st.integers(1, 97), st.integers(1, 31), st.just(11), st.just(13)),
)
_SPEC = st.lists(_LAYER, min_size=1, max_size=6).map(lambda layers: ModelSpec("m", tuple(layers), "bf16"))
_FORMAT = st.sampled_from(sorted(FORMATS))
_CONTEXT = st.integers(1, 5000)


@given(_SPEC, _CONTEXT, _FORMAT)
def test_more_context_never_needs_less(spec: ModelSpec, context: int, kv_dtype: str) -> None:
    here = cache_bytes(spec, context, kv_dtype=kv_dtype)
    after = cache_bytes(spec, context + 1, kv_dtype=kv_dtype)
    assert 0 <= here.bytes_per_token == after.sequence_bytes - here.sequence_bytes
    assert here.fixed_bytes == sequence_bytes(spec, 0, kv_dtype) <= here.sequence_bytes


@given(_SPEC, _CONTEXT, st.integers(1, 1000), _FORMAT)
def test_a_batch_is_so_many_sequences(spec: ModelSpec, context: int, batch: int, kv_dtype: str) -> None:
    one = cache_bytes(spec, context, 1, kv_dtype)
    many = cache_bytes(spec, context, batch, kv_dtype)
    assert many.state_bytes == batch * one.state_bytes
    assert many.sequence_bytes == one.state_bytes


@given(_SPEC, _CONTEXT, _FORMAT)
def test_layers_and_kinds_add_up(spec: ModelSpec, context: int, kv_dtype: str) -> None:
    total = cache_bytes(spec, context, kv_dtype=kv_dtype)
    assert sum(layer.state_bytes for layer in layers_bytes(spec, context, kv_dtype)) == total.sequence_bytes
    assert sum(total.by_kind.values()) == total.sequence_bytes == sequence_bytes(spec, context, kv_dtype)


@given(_SPEC, _CONTEXT)
def test_fewer_shared_heads_never_need_more(spec: ModelSpec, context: int) -> None:
    plain = [layer for layer in spec.layers if layer.kind is not Kind.LATENT]
    if not plain:
        return
    spec = ModelSpec("m", tuple(plain), "bf16")
    mha = sequence_bytes(with_n_kv_heads(spec, None), context)
    mqa = sequence_bytes(with_n_kv_heads(spec, 1), context)
    assert mha >= sequence_bytes(spec, context) >= mqa


@given(_SPEC, st.integers(0, 10**7), st.integers(1, 5))
def test_the_context_where_memory_ends(spec: ModelSpec, target: int, batch: int) -> None:
    context = context_where(spec, target, batch=batch)
    if context is None:
        assert batch * sequence_bytes(spec, 2**32) <= target
    else:
        assert batch * sequence_bytes(spec, context + 1) > target
        assert context == 0 or batch * sequence_bytes(spec, context) <= target
