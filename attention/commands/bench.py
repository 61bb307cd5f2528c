"""``python -m attention bench``: time decode attention on this machine."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import product

from attention import units
from attention.commands.arguments import numbers, tell_of_waiting
from attention.kernels.case import (
    DEVICES,
    DTYPES,
    PHASES,
    Case,
    Result,
)
from attention.settings import load
from attention.timing.device_queue import turn

HELP = "Time one step of attention on this machine, each case checked against float64."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n-heads", type=numbers, default=(32,), metavar="N[,N…]", help="query heads (32)")
    parser.add_argument("--n-kv-heads", type=numbers, default=(32, 8, 1), metavar="N[,N…]", help="K/V heads (32,8,1)")
    parser.add_argument("--head-dim", type=numbers, default=(128,), metavar="N[,N…]", help="size of a head (128)")
    parser.add_argument(
        "--context", type=numbers, default=(1024, 4096), metavar="N[,N…]", help="tokens held (1024,4096)"
    )
    parser.add_argument("--batch", type=numbers, default=(1,), metavar="N[,N…]", help="sequences (1)")
    parser.add_argument("--dtype", type=_words, default=("float32",), metavar="|".join(DTYPES), help="dtypes (float32)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: CUDA where there is one")
    parser.add_argument("--phase", choices=PHASES, default="decode", help="decode one token, or prefill all (decode)")
    parser.add_argument(
        "--implementations", type=_words, default=(), metavar="NAME[,NAME…]", help="all that run here, unless named"
    )
    parser.add_argument("--seconds", type=float, default=0.6, help="time to spend on each case's repeats (0.6)")
    parser.add_argument("--json", action="store_true", help="one JSON object per case and line")
    parser.add_argument("--save", action="store_true", help="keep the run and print its link")


def run(args: argparse.Namespace) -> int:
    from attention.timing import benchmark

    if not 0 < args.seconds <= 60:
        raise ValueError(f"seconds must be above 0 and at most 60, got {args.seconds}")
    cases = list(_cases(args))
    results: list[Result] = []
    # cases that cannot be timed are refused before the command waits for the device
    benchmark.check(cases)
    with turn(cases[0].device, load().lock_dir, waiting=tell_of_waiting):
        for result in benchmark.run_cases(cases, seconds_per_case=args.seconds):
            if not results and not args.json:
                print(_HEADER)
            results.append(result)
            print(json.dumps(result.to_json()) if args.json else _row(result), flush=True)
    if args.save:
        store = importlib.import_module("attention.kept.store")
        print(store.save_results(results), file=sys.stderr)
    return 0


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    from attention.kernels import registry
    from attention.timing.inputs import resolve_device

    device = resolve_device(args.device)
    for n_heads, n_kv_heads, head_dim, context, batch, dtype in product(
        args.n_heads, args.n_kv_heads, args.head_dim, args.context, args.batch, args.dtype
    ):
        # a first case checks the sizes before the suitable implementations are looked for
        names = args.implementations or registry.suited(
            Case("", n_heads, n_kv_heads, head_dim, context, batch, dtype, device, args.phase)
        )
        for name in names:
            yield Case(name, n_heads, n_kv_heads, head_dim, context, batch, dtype, device, args.phase)


_COLUMNS = (20, 7, 10, 10, 9, 7, 10, 10, 10, 11, 9, 9)
_NAMES = (
    "implementation",
    "heads",
    "kv_heads",
    "head_dim",
    "context",
    "batch",
    "dtype",
    "median",
    "spread",
    "bandwidth",
    "× floor",
    "error",
)


def _line(cells: Iterable[str]) -> str:
    first, *rest = cells
    width, *widths = _COLUMNS
    return f"{first:<{width}}" + "".join(f"{cell:>{w}}" for cell, w in zip(rest, widths, strict=True))


_HEADER = _line(_NAMES)


def _row(r: Result) -> str:
    case, timed = r.case, r.median_s is not None
    cells = (
        case.implementation,
        str(case.n_heads),
        str(case.n_kv_heads),
        str(case.head_dim),
        units.tokens(case.context),
        str(case.batch),
        case.dtype,
        units.duration(r.median_s) if r.median_s is not None else "–",
        units.duration(r.iqr_s) if r.iqr_s is not None else "–",
        units.decimal(r.bytes_per_s, "B/s") if r.bytes_per_s is not None else "–",
        units.significant(r.times_floor) if r.times_floor is not None else "–",
        f"{r.error:.1e}" if r.error is not None else "–",
    )
    told = f"not steady: {r.unsteady}" if r.unsteady else "" if timed else r.note
    return _line(cells) + (f"  {told}" if told else "")


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
