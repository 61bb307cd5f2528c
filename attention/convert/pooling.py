"""Pools K/V heads: the pure tensor functions of the conversion.

Along the first dimension one head follows the other, in a projection's weight ``[n_kv_heads * head_dim, hidden]``, in
its bias ``[n_kv_heads * head_dim]`` and in a norm over all heads. Neighbouring heads form a group, because query head i
reads K/V head ``i // group_size``: new head j is made from old heads ``j * share … (j + 1) * share - 1``.

Source of the three poolings: Ainslie et al. 2023, arXiv:2305.13245, section 2.1 (mean) and figure 4 (first, random).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, get_args

import torch
from torch import Tensor

from attention.errors import check_choice

Pool = Literal["mean", "first", "random"]
POOLS: tuple[Pool, ...] = get_args(Pool)

_BLOCK = 2**15

Role = Literal["weight", "bias", "norm"]
"""The role of a pooled tensor. A random head has normal weights, zeros as its bias and ones as its norm."""


def check_pool(pool: str) -> Pool:
    """`pool`, if it is one of POOLS.

    Raises:
        ValueError: it is none of them.
    """
    return check_choice("pool", pool, POOLS)


def check_kv_heads(n_heads: int, n_kv_heads: int, new_n_kv_heads: int) -> int:
    """`new_n_kv_heads`, if the model's `n_kv_heads` K/V heads can be merged into so many.

    Raises:
        ValueError: they cannot; the message names the accepted numbers.
    """
    # a divisor of n_kv_heads divides n_heads too
    accepted = [k for k in range(1, n_kv_heads + 1) if n_kv_heads % k == 0]
    if isinstance(new_n_kv_heads, bool) or new_n_kv_heads not in accepted:
        raise ValueError(
            f"n_kv_heads must divide the model's {n_kv_heads} K/V heads (it has {n_heads} query heads): "
            f"one of {', '.join(map(str, accepted))}, got {new_n_kv_heads!r}"
        )
    return new_n_kv_heads


def generator_for(seed: int, name: str) -> torch.Generator:
    """A generator that depends only on the seed and the tensor's name, so the order of shards changes nothing."""
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def merge(
    heads: Tensor | Sequence[Tensor],
    pool: Pool,
    role: Role = "weight",
    generator: torch.Generator | None = None,
    std: float = 0.02,
) -> Tensor:
    """Pool a group of heads into one.

    A group of one head does not change, whatever the pooling.

    Args:
        heads: [share, ...], or a list of [...]: the group's slices of one tensor.
        pool: "mean" adds in float64 and rounds once to the tensor's dtype, so equal heads stay bit for bit the same;
            "first" takes the group's first head; "random" draws new weights.
        role: the tensor's role; only "random" needs it.
        generator: for "random"; None draws from torch's global generator.
        std: standard deviation of a random weight (the config's ``initializer_range``).

    Returns:
        [...], in the dtype of `heads`.
    """
    if len(heads) == 1 or pool == "first":
        return heads[0]
    if pool == "mean":
        return _mean(heads)
    first = heads[0]
    if role == "weight":
        # drawn in float32 whatever the checkpoint's dtype, so that the same seed gives the same weights
        drawn = torch.empty(first.shape, dtype=torch.float32, device=first.device)
        return drawn.normal_(0.0, std, generator=generator).to(first.dtype)
    return torch.full_like(first, 1.0 if role == "norm" else 0.0)


def _mean(heads: Tensor | Sequence[Tensor]) -> Tensor:
    """The mean of the heads, block by block: a block's sums stay in the processor's cache, and are too few numbers for
    several threads."""
    flat = [head.reshape(-1) for head in heads]
    mean = torch.empty_like(flat[0])
    for start in range(0, len(mean), _BLOCK):
        stop = start + _BLOCK
        total = flat[0][start:stop].to(torch.float64, copy=True)
        for head in flat[1:]:
            total += head[start:stop].to(torch.float64)
        mean[start:stop] = total.div_(len(flat))
    return mean.view(heads[0].shape)


def pool_heads(
    tensor: Tensor,
    n_kv_heads: int,
    new_n_kv_heads: int,
    pool: Pool = "mean",
    role: Role = "weight",
    generator: torch.Generator | None = None,
    std: float = 0.02,
) -> Tensor:
    """Pool all heads of one tensor into `new_n_kv_heads` heads.

    Args:
        tensor: [n_kv_heads * rows, ...]: weight, bias, or norm over all heads of K or V.
        n_kv_heads: heads of the tensor.
        new_n_kv_heads: heads of the result, a divisor of n_kv_heads.
        pool, role, generator, std: as for :func:`merge`.

    Returns:
        [new_n_kv_heads * rows, ...], a new tensor.

    Raises:
        ValueError: the heads do not divide, or the tensor's rows do not split into n_kv_heads.
    """
    check_pool(pool)
    check_kv_heads(n_kv_heads, n_kv_heads, new_n_kv_heads)
    if not tensor.shape or tensor.shape[0] % n_kv_heads:
        raise ValueError(f"{tuple(tensor.shape)} does not split into {n_kv_heads} heads along its first dimension")
    groups = tensor.unflatten(0, (new_n_kv_heads, n_kv_heads // new_n_kv_heads, -1))
    return torch.cat([merge(group, pool, role, generator, std) for group in groups])


def pool_projections(
    state: dict[str, Tensor],
    roles: dict[str, Role],
    n_kv_heads: int,
    new_n_kv_heads: int,
    pool: Pool = "mean",
    seed: int = 0,
    std: float = 0.02,
) -> dict[str, Tensor]:
    """The tensors of a model in memory, with those named in `roles` pooled. All others are the same objects.

    Args:
        state: name -> tensor.
        roles: name -> role of each tensor to pool.
        seed: for "random"; other arguments as for :func:`pool_heads`.

    Raises:
        ValueError: a name of `roles` is not in `state`, or as :func:`pool_heads`.
    """
    if missing := roles.keys() - state.keys():
        raise ValueError(f"no tensor named {', '.join(sorted(missing))}")
    return {
        name: pool_heads(tensor, n_kv_heads, new_n_kv_heads, pool, roles[name], generator_for(seed, name), std)
        if name in roles
        else tensor
        for name, tensor in state.items()
    }
