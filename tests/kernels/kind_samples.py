"""Small cases of every kind, format and head size, with odd sizes throughout."""

from __future__ import annotations

import torch

from attention.kernels.kinds import stored
from attention.kernels.kinds.case import CACHE_FORMATS, KindCase


def label(case: KindCase) -> str:
    formats = f"{case.k_format}-{case.v_format}"
    return f"{case.kind}-{case.n_heads}-{case.n_kv_heads}-{case.head_dim}-{formats}-{case.context}-q{case.q_len}"


def _full(head_dim: int, value_dim: int, context: int, batch: int = 1, q_len: int = 1, heads: int = 6) -> KindCase:
    return KindCase("full", "triton", heads, 2, head_dim, value_dim, context, batch, q_len)


SAMPLES = [
    _full(64, 64, 1),
    _full(64, 64, 33, 2),
    _full(80, 80, 67),
    _full(96, 96, 65, q_len=3),
    _full(128, 128, 67, q_len=8, heads=10),  # 40 rows: two tiles of queries
    _full(192, 128, 41),
    _full(256, 256, 37),
    _full(40, 24, 23, q_len=2),
    # enough positions to be split, at an odd place
    _full(64, 64, 391),
    _full(16, 16, 1031, q_len=2, heads=2),
    KindCase("expanded", "triton", 3, 3, 48, 32, 71, 2),
    KindCase("latent", "triton", 17, 1, 72, 64, 397),
    KindCase("latent", "triton", 5, 1, 72, 64, 67, 1, 3),
    KindCase("latent", "triton", 5, 1, 576, 512, 37),
    KindCase("latent", "triton", 5, 1, 80, 64, 67, 1, 2, k_format="fp8-head", v_format="fp8-head"),
    KindCase("latent", "triton", 5, 1, 96, 64, 67, k_format="q8_0", v_format="q8_0"),
    KindCase("window", "triton", 6, 2, 64, 64, 101, 1, 1, 37),
    KindCase("window", "triton", 6, 2, 64, 64, 101, 1, 4, 37),
    KindCase("window", "triton", 6, 2, 64, 64, 31, 1, 2, 37),
    KindCase("window", "triton", 6, 2, 64, 64, 1009, 1, 2, 307),
    KindCase("shared", "triton", 6, 2, 80, 80, 67, 1, 2),
    KindCase("shared", "triton", 3, 1, 512, 512, 37),
    *(KindCase("shared", "triton", 3, 1, 96, 96, 67, k_format=f, v_format=f) for f in CACHE_FORMATS[1:]),
    *(
        KindCase("full", "triton", 4, 2, 64, 96, 71, 1, 2, k_format=k, v_format=v)
        for k, v in zip(CACHE_FORMATS[1:], [*CACHE_FORMATS[2:], "dtype"], strict=True)
    ),
    KindCase("full", "triton", 6, 2, 128, 128, 389, k_format="int8-token", v_format="int4-g32"),
    KindCase("sparse", "triton", 5, 1, 72, 64, 101, 2, 1, 0, 31, 3, 24),
    KindCase("sparse", "triton", 5, 1, 72, 64, 61, 1, 3, 0, 60, 5, 16),
    KindCase("sparse", "triton", 5, 1, 72, 64, 7, 1, 3, 0, 31, 5, 16),
]

QUICK = [SAMPLES[n] for n in (3, 7, 11, 17, 25, 27, 30, -2)]
"""Most kinds, some formats, one split: for Triton's interpreter, which takes tens of milliseconds a program."""


def preallocated(
    kind: str, sizes: tuple[int, int, int], dtype: torch.dtype, device: str = "cpu"
) -> tuple[torch.Tensor, stored.Cache]:
    """q [2, 4, 2, k_dim] and a cache as engines allocate one beforehand: positions come before heads, and those beyond
    the context hold NaN.

    Args:
        sizes: (n_kv_heads, k_dim, v_dim).
    """
    context = 71
    torch.manual_seed(1)
    n_kv_heads, k_dim, v_dim = sizes
    whole = [torch.full((2, 200, n_kv_heads, dim), float("nan"), device=device) for dim in (k_dim, v_dim)]
    for x in whole:
        x[:, :context] = torch.randn(2, context, *x.shape[2:], device=device)
    k, v = (x.to(dtype)[:, :context].transpose(1, 2) for x in whole)
    q = torch.randn(2, 2, 4, k_dim, device=device).transpose(1, 2).to(dtype)
    return q, stored.Cache(
        stored.Plane("dtype", k_dim, k),
        None if kind == "latent" else stored.Plane("dtype", v_dim, v),
        v_dim,
        0.2,
        context if kind != "window" else 3 * context,
        40 if kind == "window" else 0,
    )
