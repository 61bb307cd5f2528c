"""Attention shared out over processes, as serving engines do it: each rank has some of the heads and its part of W_O.

Each of N ranks computes n_heads / N query heads with the K/V heads that they read. With more ranks than K/V heads,
several ranks hold the same K/V head, so more ranks do not make a rank's cache smaller. Each rank multiplies by its
columns of W_O, and an all-reduce adds up the results (Megatron-LM, Shoeybi et al. 2019, arXiv:1909.08053, section 3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from attention.kernels import reference
from attention.kernels.case import DTYPES, Case, as_row, check_bytes
from attention.kernels.reference import relative_error, tolerance
from attention.kernels.registry import implementation
from attention.spec import check_divides
from attention.timing import host, speed
from attention.timing.inputs import RESERVE
from attention.units import binary_bytes

WARM_UP, REPEATS = 2, 15


@dataclass(frozen=True)
class Shard:
    """What one rank holds: query heads [first_head, first_head + n_heads), K/V heads [first_kv_head, first_kv_head +
    n_kv_heads)."""

    first_head: int
    n_heads: int
    first_kv_head: int
    n_kv_heads: int

    @property
    def heads(self) -> slice:
        return slice(self.first_head, self.first_head + self.n_heads)

    @property
    def kv_heads(self) -> slice:
        return slice(self.first_kv_head, self.first_kv_head + self.n_kv_heads)


def shard(n_heads: int, n_kv_heads: int, rank: int, ranks: int) -> Shard:
    """The heads of one rank.

    Raises:
        ValueError: ranks do not divide n_heads, or neither of ranks and n_kv_heads divides the other.
    """
    check_divides(n_heads, n_kv_heads)
    if n_heads % ranks:
        raise ValueError(f"the number of ranks must divide n_heads = {n_heads}, got {ranks}")
    if n_kv_heads % ranks and ranks % n_kv_heads:
        raise ValueError(f"the number of ranks must divide n_kv_heads = {n_kv_heads} or be its multiple, got {ranks}")
    own = n_heads // ranks
    group_size = n_heads // n_kv_heads
    return Shard(rank * own, own, rank * own // group_size, max(1, n_kv_heads // ranks))


@dataclass(frozen=True)
class Result:
    """A sharded decode step. Times are medians of the slowest rank, in seconds.

    Attributes:
        copies: ranks that hold each K/V head.
        cache_bytes_per_rank: bytes of one layer's K and V on one rank.
        step_s: time of attention, output projection and all-reduce.
        all_reduce_s: time of the all-reduce alone, on a tensor of the same size.
        single_s: time of attention and output projection in one process, with as many threads as all ranks together.
        error: the sum's largest deviation from float64, divided by the root mean square of the float64 result.
        tolerance: the largest error that is allowed.
    """

    case: Case
    ranks: int
    copies: int
    kv_heads_per_rank: int
    cache_bytes_per_rank: int
    threads_per_rank: int
    step_s: float
    all_reduce_s: float
    single_s: float
    error: float
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        return as_row(self)


def start(device: str) -> tuple[int, int]:
    """Join the group that torchrun has set up, and return (rank, ranks).

    Raises:
        ValueError: not started by torchrun, or fewer GPUs than ranks.
    """
    if "RANK" not in os.environ:
        raise ValueError("start this with torchrun: torchrun --nproc-per-node 2 -m attention bench-tp")
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ValueError(f"{local + 1} ranks need as many GPUs, this machine has {torch.cuda.device_count()}")
        torch.cuda.set_device(local)
    # runs of other processes may come first, so the timeout is long; torchrun ends the group if a rank fails
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=30))
    return dist.get_rank(), dist.get_world_size()


def wait_for_all() -> None:
    """Wait until every rank has called this."""
    dist.barrier()


@torch.inference_mode()
def run_case(case: Case) -> Result:
    """Time one case over the group's ranks. Every rank calls this and gets the same result.

    All ranks draw the same whole inputs and keep their own heads. Rank 0 checks the sum against float64.

    Raises:
        ValueError: heads that cannot be shared out over the ranks, or inputs that do not fit the memory.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    own = shard(case.n_heads, case.n_kv_heads, rank, ranks)
    _check_memory(case, ranks)
    torch.manual_seed(_shared_seed(case.device))
    dtype = getattr(torch, case.dtype)
    hidden = case.n_heads * case.head_dim

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=case.device).to(dtype)

    q = draw(case.batch, case.n_heads, 1, case.head_dim)
    k, v = (draw(case.batch, case.n_kv_heads, case.context, case.head_dim) for _ in range(2))
    w_o = draw(hidden, hidden) * hidden**-0.5
    attend = implementation(case.implementation).run
    expected = reference.attention(q, k, v).flatten(1) @ w_o.double().T if rank == 0 else None

    total_threads = host.worker_threads()
    single_s = 0.0
    if rank == 0:
        torch.set_num_threads(total_threads)
        single_s = _median(lambda: attend(q, k, v).flatten(1) @ w_o.T, case.device)
    dist.barrier()

    threads = max(1, total_threads // ranks)
    torch.set_num_threads(threads)
    q, k, v = q[:, own.heads].clone(), k[:, own.kv_heads].clone(), v[:, own.kv_heads].clone()
    columns = slice(own.first_head * case.head_dim, (own.first_head + own.n_heads) * case.head_dim)
    w_own = w_o[:, columns].clone()
    del w_o

    def step() -> Tensor:
        partial = attend(q, k, v).flatten(1) @ w_own.T
        # partial sums are added in float32, whatever the dtype
        total = partial.float()
        dist.all_reduce(total)
        return total

    out = step()
    step_s = _median(step, case.device, together=True)
    all_reduce_s = _median(lambda: dist.all_reduce(out.clone()), case.device, together=True)
    error = relative_error(out, expected) if expected is not None else 0.0
    numbers = torch.tensor([step_s, all_reduce_s, single_s, error], dtype=torch.float64, device=case.device)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    step_s, all_reduce_s, single_s, error = numbers.tolist()
    return Result(
        case,
        ranks=ranks,
        copies=max(1, ranks // case.n_kv_heads),
        kv_heads_per_rank=own.n_kv_heads,
        cache_bytes_per_rank=k.nbytes + v.nbytes,
        threads_per_rank=threads,
        step_s=step_s,
        all_reduce_s=all_reduce_s,
        single_s=single_s,
        error=error,
        tolerance=tolerance(case.dtype, case.context + hidden),
    )


def _check_memory(case: Case, ranks: int) -> None:
    per_rank = 3 * case.cache_bytes + 3 * (case.n_heads * case.head_dim) ** 2 * DTYPES[case.dtype]
    per_rank += check_bytes(case.n_heads, case.n_kv_heads, case.head_dim, case.context)
    needed = per_rank * (ranks if case.device == "cpu" else 1)
    free = torch.tensor(RESERVE * host.free_memory(case.device), dtype=torch.float64, device=case.device)
    # the ranks must agree, or some would wait for others that have stopped
    dist.all_reduce(free, op=dist.ReduceOp.MIN)
    if needed > free.item():
        raise ValueError(
            f"context {case.context:,} at batch {case.batch} needs {binary_bytes(needed)} for {ranks} ranks; "
            f"{binary_bytes(free.item())} may be used here"
        )


def _shared_seed(device: str) -> int:
    """A fresh seed, the same on every rank."""
    seed = torch.randint(2**31, (1,), dtype=torch.int64, device=device)
    dist.broadcast(seed, src=0)
    return int(seed.item())


def _median(run: Callable[[], object], device: str, together: bool = False) -> float:
    times = []
    for attempt in range(WARM_UP + REPEATS):
        if together:
            dist.barrier()
        speed.synchronize(device)
        begin = time.perf_counter()
        run()
        speed.synchronize(device)
        if attempt >= WARM_UP:
            times.append(time.perf_counter() - begin)
    return median(times)
