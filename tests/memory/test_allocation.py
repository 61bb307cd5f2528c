"""What an engine sets aside, step by step, by hand and by law."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.catalog.published import model
from attention.memory.allocation import allocate, check_tp, tp_choices
from attention.memory.footprint import cache_bytes
from attention.spec import ModelSpec, uniform_spec
from attention.states import FixedState, Kind, Layer, PositionState, Role, attention_layer, latent_layer


def test_nothing_is_added_without_pages_or_ranks() -> None:
    held = allocate(uniform_spec(3, 14, 7, 5), 11, 13, page_tokens=1)
    assert held.state_bytes == held.allocated_bytes == held.bytes_per_rank == 13 * 3 * 7 * 10 * 11 * 2
    assert [step.name for step in held.steps] == ["states"]


def test_pages_round_each_sequence_up() -> None:
    # 17 tokens lie on 2 pages of 16; one K and one V of 3 elements in 2 bytes
    held = allocate(uniform_spec(1, 2, 1, 3), 17, 5)
    assert (held.state_bytes, held.allocated_bytes) == (5 * 17 * 12, 5 * 32 * 12)
    assert [step.bytes_after for step in held.steps] == [held.state_bytes, held.allocated_bytes]


def test_a_window_lies_on_one_page_more_than_it_fills() -> None:
    spec = uniform_spec(1, 2, 1, 3, window=32)
    # 32 tokens that start inside a page touch 3 pages of 16
    assert allocate(spec, 1000).allocated_bytes == 3 * 16 * 12
    # as long as nothing has left the window, only the tokens' own pages
    assert allocate(spec, 32).allocated_bytes == 2 * 16 * 12
    assert allocate(spec, 1000, page_tokens=1).allocated_bytes == 32 * 12


def test_one_pool_holds_windowed_layers_at_full_length() -> None:
    spec = ModelSpec("m", (attention_layer(2, 1, 3, window=7), attention_layer(2, 1, 3)))
    shared = allocate(spec, 64, window_pool="shared")
    assert shared.allocated_bytes == 2 * 64 * 12
    assert [step.name for step in shared.steps] == ["states", "windows in the shared pool", "whole pages"]
    assert allocate(spec, 64).allocated_bytes == (64 + 2 * 16) * 12


def test_room_in_advance() -> None:
    held = allocate(uniform_spec(1, 2, 1, 3), 17, 2, max_context=100)
    assert [(s.name, s.bytes_after) for s in held.steps] == [
        ("states", 2 * 17 * 12),
        ("static pre-allocation", 2 * 100 * 12),
        ("whole pages", 2 * 112 * 12),
    ]
    with pytest.raises(ValueError, match="max_context must be at least the context of 17, got 16"):
        allocate(uniform_spec(1, 2, 1, 3), 17, max_context=16)


@pytest.mark.parametrize(("tp", "copies"), [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4)])
def test_heads_are_copied_once_there_are_more_ranks_than_heads(tp: int, copies: int) -> None:
    held = allocate(uniform_spec(3, 16, 4, 5), 7, tp=tp, page_tokens=1)
    assert held.allocated_bytes == copies * held.state_bytes == held.bytes_per_rank * tp
    if copies > 1:
        assert f"4 K/V heads are fewer than {tp} ranks" in held.steps[-1].why


def test_every_rank_keeps_the_whole_latent() -> None:
    held = allocate(ModelSpec("m", (latent_layer(16, 31, 7, 11, 13),)), 5, tp=8, page_tokens=1)
    assert held.bytes_per_rank == held.state_bytes == 5 * 38 * 2
    assert held.allocated_bytes == 8 * held.state_bytes
    assert "no heads to divide" in held.steps[-1].why


def test_recurrent_states_divide_by_their_heads() -> None:
    states = (FixedState(Role.RECURRENT, 24, "fp32", n_heads=4), FixedState(Role.BUFFER, 7, "fp32"))
    spec = ModelSpec("m", (Layer(Kind.RECURRENT, states),), "bf16")
    assert allocate(spec, 5, 3).allocated_bytes == 3 * 31 * 4
    held = allocate(spec, 5, 3, tp=2)
    assert held.bytes_per_rank == 3 * (12 + 7) * 4
    # more ranks than heads: one head each
    assert allocate(spec, 5, 3, tp=8).bytes_per_rank == 3 * (6 + 7) * 4


def test_ranks_that_do_not_divide_are_refused_with_the_reason() -> None:
    falcon = model("tiiuae/falcon-7b").spec
    assert falcon is not None
    with pytest.raises(ValueError, match="tp must divide n_heads = 71, got 2"):
        allocate(falcon, 100, tp=2)
    with pytest.raises(ValueError, match="tp = 2 cannot deal out the 3 heads of a layer's key/value evenly"):
        check_tp(uniform_spec(1, 6, 3, 5), 2)
    assert tp_choices(falcon, 100) == (1, 71)
    assert tp_choices(uniform_spec(1, 12, 4, 5)) == (1, 2, 4, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tp": 0}, "tp must be between 1 and 1,024, got 0"),
        ({"page_tokens": 0}, "page_tokens must be between 1"),
        ({"window_pool": "none"}, "window_pool must be one of own, shared, got 'none'"),
        ({"kv_dtype": "bf17"}, "kv_dtype must be one of"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(uniform_spec(1, 2, 1, 3), 5, **arguments)


def test_scales_of_a_quantised_cache_are_set_aside_on_every_rank() -> None:
    spec = uniform_spec(1, 8, 4, 32)
    per_tensor = allocate(spec, 1, kv_dtype="fp8-tensor", tp=4, page_tokens=1)
    assert per_tensor.allocated_bytes == 4 * (2 * 32 + 2 * 4)
    per_head = allocate(spec, 1, kv_dtype="fp8-head", tp=4, page_tokens=1)
    assert per_head.allocated_bytes == per_head.state_bytes == 4 * 64 + 4 * 2 * 4


def test_compressed_entries_fill_pages_of_their_own() -> None:
    states = (PositionState(Role.COMPRESSED, 1, 7, 0, stride=4),)
    spec = ModelSpec("m", (Layer(Kind.COMPRESSED, states, 11, 7, 7),))
    # 70 tokens are 17 entries, on 2 pages of 16
    assert allocate(spec, 70).allocated_bytes == 32 * 14


@given(
    st.sampled_from(["meta-llama/Llama-3.1-8B", "google/gemma-3-27b-it", "deepseek-ai/DeepSeek-V4-Pro", "gpt-oss-20b"]),
    st.integers(1, 300_000),
    st.integers(1, 50),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 16, 64]),
    st.sampled_from(["own", "shared"]),
)
def test_an_engine_never_sets_aside_less_than_is_needed(
    name: str, context: int, batch: int, tp: int, page_tokens: int, pool: str
) -> None:
    spec = model(name).spec
    assert spec is not None
    held = allocate(spec, context, batch, tp=tp, page_tokens=page_tokens, window_pool=pool)
    sizes = [step.bytes_after for step in held.steps]
    assert sizes == sorted(sizes)
    assert sizes[0] == held.state_bytes == cache_bytes(spec, context, batch).state_bytes
    assert sizes[-1] == held.allocated_bytes == tp * held.bytes_per_rank
    larger = allocate(spec, context + 1, batch, tp=tp, page_tokens=page_tokens, window_pool=pool)
    assert larger.allocated_bytes >= held.allocated_bytes
