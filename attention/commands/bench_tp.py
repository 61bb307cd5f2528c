"""``torchrun --nproc-per-node N -m attention bench-tp``: time one attention step over N processes."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

from attention import units
from attention.commands.arguments import numbers, tell_of_waiting
from attention.kernels.case import DEVICES, DTYPES, Case
from attention.settings import load
from attention.timing.device_queue import turn

if TYPE_CHECKING:
    from attention.timing.tensor_parallel import Result

HELP = "Time attention with its heads shared out over processes; start with torchrun --nproc-per-node N."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n-heads", type=int, default=32, metavar="N", help="query heads (32)")
    parser.add_argument("--n-kv-heads", type=numbers, default=(32, 8, 1), metavar="N[,N…]", help="K/V heads (32,8,1)")
    parser.add_argument("--head-dim", type=int, default=128, metavar="N", help="size of a head (128)")
    parser.add_argument("--context", type=numbers, default=(4096,), metavar="N[,N…]", help="tokens held (4096)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="sequences (1)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="dtype (float32)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: CUDA where there is one")
    parser.add_argument("--implementation", default="folded_matmul", metavar="NAME", help="(folded_matmul)")
    parser.add_argument("--json", action="store_true", help="one JSON object per case and line")


def run(args: argparse.Namespace) -> int:
    import torch.distributed as dist

    from attention.kernels import registry
    from attention.timing import tensor_parallel
    from attention.timing.inputs import resolve_device

    device = resolve_device(args.device)
    cases = [
        Case(args.implementation, args.n_heads, n, args.head_dim, context, args.batch, args.dtype, device)
        for n in args.n_kv_heads
        for context in args.context
    ]
    unavailable = registry.implementation(args.implementation).unavailable(device)
    if unavailable:
        raise ValueError(f"{args.implementation} cannot run here: {unavailable}")
    rank, ranks = tensor_parallel.start(device)
    try:
        for case in cases:
            # every rank finds the same mistake before any of them has begun
            tensor_parallel.shard(case.n_heads, case.n_kv_heads, rank, ranks)
        # the first rank waits for the device and holds it for all
        with turn(device, load().lock_dir, waiting=tell_of_waiting) if rank == 0 else nullcontext():
            tensor_parallel.wait_for_all()
            for case in cases:
                result = tensor_parallel.run_case(case)
                if rank == 0:
                    print(json.dumps(result.to_json()) if args.json else _line(result), flush=True)
    finally:
        dist.destroy_process_group()
    return 0


def _line(r: Result) -> str:
    held = f"each K/V head on {r.copies} ranks" if r.copies > 1 else f"{r.kv_heads_per_rank} K/V heads per rank"
    case = r.case
    return (
        f"{case.n_heads}/{case.n_kv_heads} heads, context {units.tokens(case.context)}, {case.dtype}, {r.ranks} ranks: "
        f"{units.binary_bytes(r.cache_bytes_per_rank)} of {units.binary_bytes(case.cache_bytes)} per rank ({held}); "
        f"step {units.duration(r.step_s)}, of it all-reduce {units.duration(r.all_reduce_s)}; "
        f"one process {units.duration(r.single_s)}; error {r.error:.1e} of {r.tolerance:.1e} allowed"
    )
