"""``python -m attention convert``: a checkpoint with fewer K/V heads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attention.files import ordinary

if TYPE_CHECKING:
    from attention.convert.report import Report
    from attention.convert.run import Progress

HELP = "convert a Hugging Face checkpoint to fewer K/V heads (MHA or GQA to GQA or MQA)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="folder with config.json and safetensors; only read")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to make")
    parser.add_argument("--n-kv-heads", type=int, required=True, metavar="K", help="K/V heads of the result")
    parser.add_argument(
        "--pool",
        choices=("mean", "first", "random"),
        default="mean",
        help="how the heads of a group become one: their mean (default), the first of them, or fresh random weights",
    )
    parser.add_argument("--seed", type=int, default=0, help="of --pool random (default 0)")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="cast all weights (default: as they are)")
    parser.add_argument("--dry-run", action="store_true", help="check and report, write nothing")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(args: argparse.Namespace) -> int:
    ordinary(args.source / "config.json")  # before seconds go by in reading PyTorch
    from attention.convert.run import convert

    try:
        report = convert(
            args.source,
            args.target,
            args.n_kv_heads,
            args.pool,
            args.seed,
            args.dtype,
            args.dry_run,
            progress=_bar() if sys.stderr.isatty() else None,
        )
    except OSError as error:
        # a full disk, a lost mount: nothing the caller wrote wrongly, nothing to show a trace of
        raise ValueError(
            f"{error.strerror or error}; {args.source} is as it was, {args.target} was not made"
        ) from error
    print(json.dumps(report.to_json(), indent=2) if args.json else text(report))
    return 0


def _bar() -> Progress:
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, desc="convert", leave=False)

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return update


def text(report: Report) -> str:
    """The report as lines to read."""
    from attention.units import binary_bytes, parameters, ratio

    before, after = report.cache_bytes_per_token_before, report.cache_bytes_per_token_after
    smaller = ratio(before / after)
    cache = f"{binary_bytes(before)} → {binary_bytes(after)} per token ({report.cache_dtype}), {smaller} smaller"
    saved = f"({report.parameters_before - report.parameters_after:,} fewer)"
    lines = [
        f"{report.source} → {report.target}" + (" (dry run, nothing written)" if report.dry_run else ""),
        f"  family      {report.family}, {report.n_layers} layers, {report.n_heads} query heads of {report.head_dim}",
        f"  K/V heads   {report.n_kv_heads_before} → {report.n_kv_heads_after}, pooled by {report.pool}",
        f"  parameters  {parameters(report.parameters_before)} → {parameters(report.parameters_after)} {saved}",
        f"  weights     {binary_bytes(report.bytes_before)} → {binary_bytes(report.bytes_after)}",
        f"  KV cache    {cache}",
    ]
    if report.files_left_out:
        lines.append(f"  left out    {', '.join(report.files_left_out)}")
    return "\n".join(lines)
