"""The sums of a spec, compared with adding up its layers one by one, and what a redraw of a hostile spec costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention import sharing
from attention.catalog import published
from attention.configs.reader import spec_from_config
from attention.formats import FORMATS, cache_format
from attention.memory import (
    allocation,
    breakdown,
    counterfactuals,
    curves,
    terms,
)
from attention.memory.footprint import (
    cache_bytes,
    context_where,
    sequence_bytes,
)
from attention.memory.layer_groups import layer_groups
from attention.serving import (
    fit,
    plan,
    roofline,
    spectrum,
)
from attention.sharing import divisors, with_n_kv_heads
from attention.spec import DTYPE_BYTES, FixedState, Kind, Layer, ModelSpec, PositionState, Role, State, attention_layer


def slow_state(state: State, spec: ModelSpec, context: int, encoder: int, kv_dtype: str) -> int:
    fmt = FORMATS[kv_dtype]
    if isinstance(state, FixedState):
        return state.elements * DTYPE_BYTES[state.dtype or spec.model_dtype or kv_dtype]
    heads = state.n_kv_heads
    row = fmt.row_bytes(heads * state.k_head_dim) + fmt.row_bytes(heads * state.v_head_dim)
    if state.dtype:
        row = state.elements_per_position * DTYPE_BYTES[state.dtype]
    scales = 0 if state.dtype else fmt.fixed_bytes(state)
    return row * (encoder if state.role is Role.CROSS else state.positions(context)) + scales


def slow(spec: ModelSpec, context: int, kv_dtype: str, encoder: int | None = None) -> int:
    held = context if encoder is None else encoder
    return sum(slow_state(s, spec, context, held, kv_dtype) for layer in spec.layers for s in layer.states)


def slow_pages(spec: ModelSpec, context: int, kv_dtype: str, page: int, windows: bool) -> int:
    """Bytes of one sequence in whole pages on one rank."""
    fmt, total = FORMATS[kv_dtype], 0
    for state in (s for layer in spec.layers for s in layer.states):
        if isinstance(state, FixedState):
            total += slow_state(state, spec, 0, 0, kv_dtype)
            continue
        pages = -(-(context // state.stride) // page)
        if windows and state.window is not None and context // state.stride > state.window:
            pages = min(pages, -(-(state.window - 1) // page) + 1)
        total += pages * page * terms.row_bytes(state, fmt) + (0 if state.dtype else fmt.fixed_bytes(state))
    return total


small = st.integers(1, 40)
fixed_states = st.builds(FixedState, st.just(Role.RECURRENT), small, st.sampled_from([None, "fp32"]))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kv, group, k, v = (draw(st.integers(1, 6)) for _ in range(4))
    window, stride = draw(st.none() | small), draw(st.sampled_from([1, 1, 3, 4, 128]))
    states: list[State] = [PositionState(Role.KEY_VALUE, kv, k, v, window, stride)]
    if draw(st.booleans()):
        states.append(draw(fixed_states))
    if draw(st.booleans()):
        states.append(PositionState(Role.CROSS, kv, k, v))
    if draw(st.booleans()):
        states.append(PositionState(Role.INDEXER, 1, k, 0, dtype=draw(st.sampled_from([None, "fp8"]))))
    kind = draw(st.sampled_from([Kind.FULL, Kind.SLIDING, Kind.CROSS, Kind.LATENT]))
    return draw(st.sampled_from([Layer(Kind.NONE), Layer(kind, tuple(states), kv * group, k, v)]))


specs = st.builds(lambda some: ModelSpec("m", tuple(some), "bf16"), st.lists(layers(), min_size=1, max_size=9))
formats = st.sampled_from(list(FORMATS))
contexts = st.integers(1, 300)


@given(specs, contexts, formats, st.none() | contexts)
def test_the_sum_is_that_of_the_layers(spec: ModelSpec, context: int, kv: str, encoder: int | None) -> None:
    assert sequence_bytes(spec, context, kv, encoder) == slow(spec, context, kv, encoder)
    held = cache_bytes(spec, context, 3, kv, encoder)
    assert sum(held.by_kind.values()) == held.sequence_bytes == slow(spec, context, kv, encoder)
    source = context if encoder is None else encoder
    assert held.fixed_bytes == slow(spec, 0, kv, source)
    assert held.bytes_per_token == slow(spec, context + 1, kv, source) - slow(spec, context, kv, source)
    assert sum(t.total_bytes for t in breakdown.terms(spec, held.load, encoder)) == held.state_bytes


@given(specs, contexts, formats, st.sampled_from([1, 2, 16, 17]), st.booleans())
def test_pages_are_those_of_the_layers(spec: ModelSpec, context: int, kv: str, page: int, windows: bool) -> None:
    pool = "own" if windows else "shared"
    aside = allocation.allocate(spec, context, 5, kv, page_tokens=page, window_pool=pool)
    assert aside.allocated_bytes == 5 * slow_pages(spec, context, kv, page, windows)


@given(specs, contexts)
def test_operations_are_those_of_the_layers(spec: ModelSpec, context: int) -> None:
    for encoder in (None, 7):
        assert roofline.step_flops(spec, context, encoder) == sum(
            roofline.layer_flops(layer, context, encoder) for layer in spec.layers
        )


@given(specs, contexts, formats, st.sampled_from([None, 1, 2, 3, 6]))
def test_shared_otherwise_is_the_sum_of_the_changed_layers(
    spec: ModelSpec, context: int, kv: str, n_kv_heads: int | None
) -> None:
    try:
        changed = with_n_kv_heads(spec, n_kv_heads)
    except ValueError:
        with pytest.raises(ValueError, match="n_kv_heads must divide"):
            terms.shared_total(spec, n_kv_heads, cache_format(kv))
        return
    assert terms.shared_total(spec, n_kv_heads, cache_format(kv)).at(context) == slow(changed, context, kv)


@pytest.mark.parametrize("n", [1, 2, 36, 97, 50_400, 2**40])
def test_divisors(n: int) -> None:
    found = divisors(n)
    assert found == tuple(sorted(set(found)))
    assert all(n % d == 0 for d in found)
    if n < 10**5:
        assert found == tuple(d for d in range(1, n + 1) if n % d == 0)
    assert prod(found) ** 2 == n ** len(found)


def windows(n: int = 10_000) -> dict[str, Any]:
    """A window and a number of K/V heads for each of many layers."""
    groups = divisors(50_400)
    blocks = [{"attention": {"n_heads_in_group": groups[i % len(groups)], "window_length": i + 1}} for i in range(n)]
    return {
        "model_type": "nemotron-nas", "num_hidden_layers": n, "num_attention_heads": 50_400, "hidden_size": 50_400,
        "head_dim": 128, "block_configs": blocks, "torch_dtype": "bfloat16",
    }  # fmt: skip


def heads(n: int = 10_000) -> dict[str, Any]:
    """Query heads and K/V heads that differ from layer to layer."""
    some = [4 * (i + 1) for i in range(n)]
    return {
        "model_type": "openelm", "num_transformer_layers": n, "num_hidden_layers": n, "head_dim": 64,
        "num_query_heads": some, "num_kv_heads": some, "torch_dtype": "bfloat16", "model_dim": 2048,
    }  # fmt: skip


HOSTILE = {"windows": windows, "heads": heads}


def redraws(spec: ModelSpec, context: int) -> None:
    """The arithmetic of What fits, KV cache, MHA-GQA-MQA and Heads."""
    counted = spec.with_parameters(7_000_000_000)
    setup = fit.Setup(published.accelerator("h100-sxm"))
    plan.plan(counted, setup, context, 3)
    plan.fit_map(counted, setup, context, 3)
    plan.every_accelerator(counted, setup, context, 3)
    cache = cache_bytes(spec, context, 2)
    curves.over_context(spec, cache, 14 * 10**9)
    counterfactuals.variants(spec, cache)
    allocation.set_aside(spec, cache, tp=1)
    allocation.tp_choices(spec)
    spectrum.spectrum(spec, published.accelerator("h100-sxm"), cache.load)
    context_where(spec, 10**12)
    layer_groups(spec)


@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_a_redraw_costs_no_layer_anything(make: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layers differ, none is looked at again once the first redraw has summed them."""
    spec = spec_from_config(make())
    assert len(spec.groups) == 10_000
    redraws(spec, 8192)

    def again(*_: object) -> None:
        raise AssertionError("a state was looked at again")

    for name in ("terms_of", "states_with"):
        monkeypatch.setattr(terms, name, again)
    monkeypatch.setattr(PositionState, "positions", again)
    monkeypatch.setattr(roofline, "layer_flops", again)
    start = time.perf_counter()
    for context in (1, 5_000, 70_001, 2**20):
        redraws(spec, context)
    assert time.perf_counter() - start < 20  # without the sums it would take minutes; a busy machine is allowed a lot


def test_ways_to_compress_are_bounded() -> None:
    some = [Layer(Kind.FULL, (PositionState(Role.KEY_VALUE, 1, 8, 8, stride=n),), 1, 8, 8) for n in range(1, 66)]
    ModelSpec("m", tuple(some[:64]))
    with pytest.raises(ValueError, match="at most 64 different ways, got 65"):
        ModelSpec("m", tuple(some))


def test_query_heads_are_bounded() -> None:
    with pytest.raises(ValueError, match="n_heads must be between 0 and 65,536"):
        attention_layer(2**17, 1, 64)


def test_what_is_known_of_the_layers_goes_along_with_a_parameter_count() -> None:
    spec = ModelSpec("m", (attention_layer(4, 2, 8),) * 3, "bf16")
    sequence_bytes(spec, 5)
    counted = spec.with_parameters(12)
    assert counted.n_parameters == 12
    assert counted.memo is spec.memo
    assert sharing.mha_of(counted) == with_n_kv_heads(counted, None)
