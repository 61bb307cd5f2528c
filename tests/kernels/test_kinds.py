"""What each kind of cache must move and compute, counted by hand; formats byte by byte; the teaching versions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from attention.kernels import reference as ordinary
from attention.kernels.kinds import inputs, names, plain, reference, registry, stored
from attention.kernels.kinds.case import CACHE_FORMATS, KINDS, KindCase, KindResult, kind_bytes, kind_flops
from attention.kernels.reference import relative_error
from attention.timing import kinds
from tests.kernels.kind_samples import SAMPLES, label

LATENT: dict[str, Any] = {"n_heads": 128, "n_kv_heads": 1, "head_dim": 576, "value_dim": 512}
SPARSE: dict[str, Any] = {**LATENT, "top_k": 2048, "index_heads": 64, "index_dim": 128}

COUNTED: list[tuple[KindCase, int, int, int]] = [
    # 2 planes of 8 heads of 128 bfloat16; 32 query heads in and out; 2 products of 2 operations
    (KindCase("full", context=1000), 2 * 8 * 1000 * 256, 2 * 32 * 256, 4 * 32 * 128 * 1000),
    # of 3 new tokens the first sees 998 positions
    (KindCase("full", context=1000, q_len=3), 4_096_000, 3 * 2 * 32 * 256, 4 * 32 * 128 * (998 + 999 + 1000)),
    # one latent of 576 for all heads, whose first 512 are the value; the result has 512 elements a head
    (KindCase("latent", context=1000, **LATENT), 1152 * 1000, 128 * 2 * (576 + 512), 2 * 128 * (576 + 512) * 1000),
    # DeepSeek-V3's 128 heads of 192 and 128, expanded, take 71 times as much as the latent
    (
        KindCase("expanded", "", 128, 128, 192, 128, 1000),
        128 * 1000 * 2 * (192 + 128),
        128 * 2 * (192 + 128),
        2 * 128 * (192 + 128) * 1000,
    ),
    # 5 new tokens with windows of 100: together they reach 104 positions
    (
        KindCase("window", context=1000, window=100, q_len=5),
        2 * 8 * 104 * 256,
        5 * 2 * 32 * 256,
        4 * 32 * 128 * 5 * 100,
    ),
    # a context that the window has not left behind yet
    (KindCase("window", context=60, window=100), 2 * 8 * 60 * 256, 2 * 32 * 256, 4 * 32 * 128 * 60),
    (KindCase("shared", "", 32, 4, 512, 512, 1000), 4 * 1000 * 1024, 2 * 32 * 1024, 4 * 32 * 512 * 1000),
    # 128 elements and a float32 scale: 132 bytes a row
    (
        KindCase("full", context=1000, k_format="int8-token", v_format="int8-token"),
        2 * 8 * 1000 * 132,
        2 * 32 * 256,
        4 * 32 * 128 * 1000,
    ),
    # a byte an element, and a float32 scale of each head and plane
    (
        KindCase("full", context=1000, k_format="fp8-head", v_format="fp8-head"),
        2 * 8 * (1000 * 128 + 4),
        2 * 32 * 256,
        4 * 32 * 128 * 1000,
    ),
    # 4 blocks of 34 bytes for a key; 4 groups of 16 + 2 + 2 bytes for a value
    (
        KindCase("full", context=1000, k_format="q8_0", v_format="int4-g32"),
        8 * 1000 * (136 + 80),
        2 * 32 * 256,
        4 * 32 * 128 * 1000,
    ),
    (KindCase("full", context=1000, k_format="q4_0"), 8 * 1000 * (72 + 256), 2 * 32 * 256, 4 * 32 * 128 * 1000),
    # 2,048 latents and all the indexer's keys; its 64 queries of 128 and their float32 weights
    (
        KindCase("sparse", context=10_000, **SPARSE),
        2048 * 1152 + 10_000 * 256,
        128 * 2 * (576 + 512) + 64 * (256 + 4),
        2 * 128 * (576 + 512) * 2048 + 10_000 * 64 * 2 * 129,
    ),
]


@pytest.mark.parametrize(("case", "read", "rest", "flops"), COUNTED, ids=lambda x: x.kind if hasattr(x, "kind") else "")
def test_bytes_and_operations_by_hand(case: KindCase, read: int, rest: int, flops: int) -> None:
    assert kind_bytes(case) == read + rest
    assert kind_flops(case) == flops
    many = replace(case, batch=3)
    fixed = case.scale_bytes
    assert kind_bytes(many) - fixed == 3 * (kind_bytes(case) - fixed)
    assert kind_flops(many) == 3 * flops


def test_what_is_held_of_a_sparse_cache_is_all_of_it() -> None:
    assert KindCase("sparse", context=10_000, **SPARSE).cache_bytes == 10_000 * (1152 + 256)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "ring"}, "kind must be one of full, expanded, .*, got 'ring'"),
        ({"k_format": "nf4"}, "k_format must be one of dtype, int8-token, .*, got 'nf4'"),
        ({"n_kv_heads": 5}, "n_kv_heads must divide n_heads"),
        ({"q_len": 65}, "q_len must be between 1 and 64, got 65"),
        ({"q_len": 8, "context": 7}, "q_len must be at most the context of 7 positions, got 8"),
        ({"window": 9}, "window belongs to kind window, got 9 in full"),
        ({"kind": "window"}, "window must be between 1 and"),
        ({"kind": "latent"}, "n_kv_heads must be 1 in kind latent"),
        ({"kind": "latent", "n_kv_heads": 1, "value_dim": 200}, "value_dim must be at most head_dim = 128, got 200"),
        ({"kind": "expanded"}, "n_kv_heads must be n_heads = 32 in kind expanded, got 8"),
        ({"kind": "shared", "value_dim": 64}, "value_dim must be head_dim = 128 in kind shared, got 64"),
        ({"kind": "shared", "k_format": "q8_0"}, "v_format must be k_format = q8_0 in kind shared, got dtype"),
        ({"head_dim": 80, "k_format": "q4_0"}, "head_dim must be divisible by 32 in q4_0, got 80"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16, got 'float8'"),
    ],
)
def test_what_is_no_case_is_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KindCase(**{"kind": "full", **change})


def test_a_row_is_read_again() -> None:
    made = KindResult(KindCase("window", window=7, device="cpu"), 0.002, 0.0001, 1e-3, 1e-1, 0.001, "memory")
    assert KindResult.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.times_floor == 2.0
    wrong: list[tuple[Any, str]] = [
        ({"kind": "full", "x": 1}, "unknown field 'x'"),
        ([], "a timing must be an object"),
        ({}, "kind"),
    ]
    for values, says in wrong:
        with pytest.raises(ValueError, match=says):
            KindResult.from_json(values)


def test_every_kind_and_implementation_has_its_words() -> None:
    assert set(names.KINDS) == set(KINDS)
    assert set(names.IMPLEMENTATIONS) == set(registry.IMPLEMENTATIONS)
    with pytest.raises(ValueError, match="implementation must be one of plain, native, triton"):
        registry.implementation("none")


@pytest.mark.parametrize("cache_format", CACHE_FORMATS[1:])
def test_a_format_keeps_what_it_says(cache_format: str) -> None:
    x = torch.randn(2, 3, 17, 96)
    x[1, 2, 5] = 0
    plane = stored.store(x, cache_format)
    case = KindCase("full", "", 3, 3, 96, 96, 17, 2, k_format=cache_format, v_format=cache_format)
    held = sum(t.nbytes for t in (plane.data, plane.scale, plane.zero) if t is not None)
    assert 2 * held == case.cache_bytes
    steps = {"int8-token": 1 / 254, "fp8-head": 1 / 16, "q8_0": 1 / 254, "q4_0": 1 / 8, "int4-g32": 1 / 15}
    # half a step (of q4_0 a whole one at the end that it cuts off), and the rounding of a float16 scale
    assert (stored.read(plane) - x).abs().max() <= (steps[cache_format] + 2e-3) * x.abs().max()
    assert not stored.read(plane, torch.float64)[1, 2, 5].any() or cache_format == "int4-g32"
    torch.testing.assert_close(stored.read(plane, torch.float64).float(), stored.read(plane))


def test_ggml_blocks_by_hand() -> None:
    """A float16 scale of 2.0 (0x4000, low byte first), then the elements."""
    eights = torch.tensor([0, 0x40, *range(256 - 16, 256), *range(16)], dtype=torch.uint8).view(1, 1, 1, 34)
    expected = torch.tensor([2.0 * n for n in range(-16, 16)]).view(1, 1, 1, 32)
    assert torch.equal(stored.read(stored.Plane("q8_0", 32, eights)), expected)
    fours = torch.tensor([0, 0x40, *((15 - n) << 4 | n for n in range(16))], dtype=torch.uint8).view(1, 1, 1, 18)
    expected = torch.tensor([2.0 * (n - 8) for n in range(16)] + [2.0 * (7 - n) for n in range(16)])
    assert torch.equal(stored.read(stored.Plane("q4_0", 32, fours)), expected.view(1, 1, 1, 32))
    codes = torch.tensor([n % 16 | (15 - n % 16) << 4 for n in range(16)], dtype=torch.uint8).view(1, 1, 1, 16)
    scale, zero = torch.full((1, 1, 1, 1), 0.5).half(), torch.full((1, 1, 1, 1), -3.0).half()
    expected = torch.tensor([0.5 * c - 3 for n in range(16) for c in (n, 15 - n)])
    assert torch.equal(stored.read(stored.Plane("int4-g32", 32, codes, scale, zero)), expected.view(1, 1, 1, 32))
    for cache_format in ("q8_0", "q4_0", "int4-g32"):
        with pytest.raises(ValueError, match="dim must be divisible by 32"):
            stored.store(torch.ones(1, 1, 1, 40), cache_format)


@pytest.mark.parametrize("q_len", [1, 3])
def test_the_specification_is_that_of_ordinary_attention(q_len: int) -> None:
    q, cache = inputs.make(KindCase("full", "", 6, 3, 10, 14, 31, 2, q_len, dtype="float32", device="cpu"))
    assert cache.v is not None
    expected = ordinary.attention(q, cache.k.data, cache.v.data)
    torch.testing.assert_close(reference.attention(q, cache), expected)
    torch.testing.assert_close(reference.attention(q, cache, sequences=(1,)), expected[1:])


def test_a_window_sees_its_last_positions() -> None:
    """A ring of 5 + 2 slots after 16 tokens: slot 1 holds position 15, slot 2 the oldest, 9."""
    cache = stored.Cache(stored.store(torch.zeros(1, 1, 7, 4), "dtype"), None, 4, 1.0, 16, 5)
    assert stored.slot_positions(cache).tolist() == [14, 15, 9, 10, 11, 12, 13]
    first, middle, last = stored.seen(cache, 3)
    assert [p for p, ok in zip([14, 15, 9, 10, 11, 12, 13], first.tolist(), strict=True) if ok] == [9, 10, 11, 12, 13]
    assert middle.sum() == last.sum() == 5
    assert last[1]
    assert not middle[1]


def test_a_ring_gives_what_the_whole_context_gives() -> None:
    torch.manual_seed(3)
    k, v, q = torch.randn(1, 2, 23, 8), torch.randn(1, 2, 23, 8), torch.randn(1, 4, 2, 8)
    whole = stored.Cache(stored.store(k, "dtype"), stored.store(v, "dtype"), 8, 0.3, 23, 7)
    ring = [torch.empty(1, 2, 8, 8) for _ in range(2)]
    for position in range(23):
        for kept, x in zip(ring, (k, v), strict=True):
            kept[:, :, position % 8] = x[:, :, position]
    own = whole._replace(k=stored.store(ring[0], "dtype"), v=stored.store(ring[1], "dtype"))
    torch.testing.assert_close(reference.attention(q, own), reference.attention(q, whole))


@pytest.mark.parametrize("case", SAMPLES, ids=label)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_teaching_version_equals_the_specification(case: KindCase, dtype: str) -> None:
    case = replace(case, dtype=dtype, device="cpu")
    q, cache = inputs.make(case)
    out = registry.implementation("plain").run(q, cache)
    assert kinds.measured_error(case, q, cache, out) <= kinds.allowed(case)


def test_a_choice_that_is_not_the_best_is_noticed() -> None:
    case = KindCase("sparse", "", 4, 1, 24, 16, 40, 2, 2, 0, 7, 3, 8, dtype="float32", device="cpu")
    _, cache = inputs.make(case)
    chosen = reference.choose(cache)
    assert reference.choice_error(cache, chosen) == 0
    assert relative_error(plain.pick(cache).sort().values, chosen.sort().values.double()) == 0
    worst = reference.index_scores(cache).masked_fill(~stored.seen(cache, 2), torch.inf).argmin(-1)
    wrong = chosen.clone()
    wrong[1, 0, 0] = worst[1, 0]
    assert reference.choice_error(cache, wrong) > kinds.INDEX_ERROR
    wrong[1, 0, 1] = worst[1, 0]
    assert reference.choice_error(cache, wrong) == float("inf")
    hidden = chosen.clone()
    hidden[0, 0, 0] = 39  # the newest token, which the one before it does not see
    assert reference.choice_error(cache, hidden) == float("inf")


def test_a_step_is_timed_beside_its_floor() -> None:
    shape = KindCase("latent", "plain", 4, 1, 72, 64, 257, dtype="float32", device="cpu")
    other = replace(shape, implementation="flash")
    results = list(kinds.run_set([shape, other], number=3, seconds_per_case=0.01))
    assert [r.case for r in results] == [shape, other]
    assert results[0].median_s
    assert results[0].floor_s
    assert results[0].times_floor
    assert results[0].times_floor >= 1
    assert results[0].error is not None
    assert results[0].together == 3
    assert results[1].note == "not run: a CUDA kernel"
    assert results[1].median_s is None


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = KindCase("full", "plain", 4, 1, 8, 8, 31, dtype="float32", device="cpu")
    wrong = replace(registry.IMPLEMENTATIONS["plain"], compute=lambda q, cache: plain.attend(q, cache) * 1.01)
    monkeypatch.setitem(registry.IMPLEMENTATIONS, "plain", wrong)
    (result,) = kinds.run_set([shape], seconds_per_case=0.01)
    assert result.note == "not timed: wrong beyond the tolerance"


def test_bad_calls_are_told() -> None:
    q, cache = inputs.make(KindCase("full", "", 4, 2, 8, 8, 5, dtype="float32", device="cpu"))
    run = registry.implementation("plain").run
    for wrong, says in (
        (q[:, :3], "n_kv_heads must divide n_heads = 3, got 2"),
        (q.expand(-1, -1, 6, -1), "q_len must be between 1 and the context of 5, got 6"),
    ):
        with pytest.raises(ValueError, match=says):
            run(wrong, cache)
    empty = cache._replace(k=stored.store(cache.k.data[:, :, :0], "dtype"))
    with pytest.raises(ValueError, match="context must be at least 1, got 0"):
        run(q, empty)
    out = run(q[:0], cache)
    assert isinstance(out, torch.Tensor)
    assert out.shape == (0, 4, 1, 8)
    with pytest.raises(ValueError, match="flash has no indexer"):
        registry.implementation("flash").run(q, cache._replace(top_k=2))
    with pytest.raises(ValueError, match="of one device and one dtype"):
        list(kinds.run_set([KindCase("full", device="cpu"), KindCase("full", device="cpu", dtype="float16")]))
