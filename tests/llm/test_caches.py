"""Caches of rounded rows: their bytes are the calculator's, and single steps give the same as one pass over a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attention.kernels.kinds import stored
from attention.kernels.kinds.case import plane_row_bytes
from attention.llm import model as llm
from attention.llm.caches import FLOATS, ROUNDED, RoundedCache, empty, held_bytes
from attention.llm.model import Model
from attention.llm.plan import CACHE_DTYPES
from attention.memory.footprint import cache_of
from attention.memory.load import Load
from attention.spec import Kind, Layer, ModelSpec, PositionState, Role
from tests.llm import checkpoints
from tests.torch_threads import torch_threads

N_KV, DIM, N_LAYERS, CONTEXT = 3, 64, 7, 11


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def _rows(n: int, seed: int = 3, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    k, v = (2 * torch.randn(batch, N_KV, n, DIM, generator=generator) for _ in range(2))
    return k, v


@pytest.mark.parametrize("name", CACHE_DTYPES)
def test_bytes_of_the_tensors_are_those_of_the_calculator(name: str) -> None:
    cache = empty(1, N_KV, 13, DIM, name, name)
    cache.append(*_rows(CONTEXT))
    held = N_LAYERS * held_bytes(cache)
    if name == "int8-token":
        assert held == 2 * N_LAYERS * N_KV * CONTEXT * plane_row_bytes(DIM, name, "bfloat16")
        return
    layer = Layer(Kind.FULL, (PositionState(Role.KEY_VALUE, N_KV, DIM, DIM),), 9, DIM, DIM)
    spec = ModelSpec("small", (layer,) * N_LAYERS)
    assert held == cache_of(spec, Load(CONTEXT, 1, name)).state_bytes


def test_keys_and_values_have_formats_of_their_own() -> None:
    whole = {name: held_bytes(_filled(name, name)) for name in ("q4_0", "bf16")}
    assert 2 * held_bytes(_filled("q4_0", "bf16")) == whole["q4_0"] + whole["bf16"]


def _filled(k_dtype: str, v_dtype: str) -> RoundedCache:
    cache = RoundedCache(1, N_KV, 13, DIM, k_dtype, v_dtype)
    cache.append(*_rows(CONTEXT))
    return cache


@pytest.mark.parametrize("name", [*ROUNDED, *FLOATS])
def test_rows_that_come_one_by_one_are_those_that_come_together(name: str) -> None:
    k, v = _rows(CONTEXT, batch=2)
    together, single = (RoundedCache(2, N_KV, CONTEXT, DIM, name, "q8_0") for _ in range(2))
    together.append(k, v)
    for at in range(CONTEXT):
        single.append(k[:, :, at : at + 1], v[:, :, at : at + 1])
    for a, b in zip(together.widened(torch.float32), single.widened(torch.float32), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="holds 11 tokens, got 12"):
        single.append(k[:, :, :1], v[:, :, :1])


@pytest.mark.parametrize(
    ("k_dtype", "v_dtype"), [*((name, name) for name in ROUNDED), ("bf16", "q4_0"), ("fp8", "fp16")]
)
@pytest.mark.parametrize("window", [0, 5])
def test_a_step_reads_what_was_stored(k_dtype: str, v_dtype: str, window: int) -> None:
    cache = _filled(k_dtype, v_dtype)
    q = torch.randn(1, 9, 1, DIM, generator=torch.Generator().manual_seed(5))
    k, v = cache.widened(torch.float64)
    seen = slice(-window if window else None, None)
    scores = q.double().unflatten(1, (N_KV, 3)) @ k[:, :, None, seen].mT * DIM**-0.5
    expected = (scores.softmax(-1) @ v[:, :, None, seen]).flatten(1, 2)
    # where one plane has 16 bits, queries and weights may be rounded to 2^-9: of scores up to 8, and of values up to 7
    allowed = 5e-2 if {k_dtype, v_dtype} & {*FLOATS} else 1e-4
    assert (cache.attend(q, window) - expected).abs().amax() < allowed


def test_what_fp8_cannot_hold_is_its_largest_number() -> None:
    cache = RoundedCache(1, N_KV, 1, DIM, "fp8", "fp8")
    cache.append(torch.full((1, N_KV, 1, DIM), 1e4), torch.full((1, N_KV, 1, DIM), -1e4))
    k, v = cache.widened(torch.float32)
    assert set(k.flatten().tolist()) == {stored.FP8_MAX}
    assert set(v.flatten().tolist()) == {-stored.FP8_MAX}


def test_groups_that_do_not_divide_a_head_are_refused() -> None:
    with pytest.raises(ValueError, match="kv_dtype q4_0 needs a head_dim that is a multiple of 32, got 48"):
        empty(1, 1, 1, 48, "q4_0", "bf16")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small(tmp_path_factory.mktemp("caches"))


def small(folder: Path) -> Model:
    """A random model with heads of 32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoints.CONFIGS, "llama", {"head_dim": 32})
        checkpoints.made("llama", folder)
    return llm.load(folder)


@pytest.mark.parametrize("name", ["int8-token", "q4_0"])
def test_a_model_that_reads_at_once_says_what_it_says_token_by_token(model: Model, name: str) -> None:
    ids = torch.arange(5, 5 + 23)[None]
    at_once = model.forward(ids, model.caches(23, 1, name), every=True)
    caches = model.caches(23, 1, name)
    parts = [model.forward(ids[:, :7], caches, every=True)]
    parts += [model.forward(ids[:, at : at + 1], caches) for at in range(7, 23)]
    # sums in another order may round a number of the cache the other way: a step of 4 bits in one of 16,000 numbers
    assert (torch.cat(parts, dim=1) - at_once).abs().amax() < 2e-2 * at_once.abs().amax()
    exact = model.forward(ids, model.caches(23), every=True)
    assert (at_once - exact).abs().amax() > 1e-4 * exact.abs().amax()
