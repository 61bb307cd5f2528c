"""Decode and prefill: ours beside the peers and beside the machine's limit, on the same tensors in the same run.

The implementations of a shape take turns, so that a drift of the machine affects all of them. The floor is measured
between them (see ``attention/timing/benchmark.py``). The command writes bench/results/decode-HOST.json and .md; a shape
that is timed again replaces its older row, the other rows stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from attention import units
from attention.commands.arguments import numbers
from attention.kernels import registry
from attention.kernels.case import Case, Result
from attention.timing import benchmark, host, inputs, speed
from bench import files

HELP = "decode and prefill against peers and the machine's limit"
LIMITS = {"memory": 1.25, "arithmetic": 2.0}
"""The fastest of our implementations should take at most this many times the floor."""
ATTEMPTS = 2
"""Where other processes kept the machine busy, a shape is timed again; if they still do, its note stays."""
OURS = ("folded_matmul", "tall_matmul", "split_compiled", "native", "expanded_sdpa", "flash", "cudnn", "efficient")
NOT_OURS = ("repeat_sdpa", "enable_gqa", "flex")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.decode", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n-kv-heads", type=numbers, default=(32, 8, 4, 1))
    parser.add_argument("--context", type=numbers, default=(1024, 4096, 16384, 32768))
    parser.add_argument("--batch", type=numbers, default=(1, 8))
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--phase", default="decode,prefill")
    parser.add_argument("--prefill-context", type=numbers, default=(1024, 2048))
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--ours", action="store_true", help="leave the peers out, for shapes that they take minutes for"
    )
    parser.add_argument("--seconds", type=float, default=0.4, help="per case")
    args = parser.parse_args(argv)
    device = inputs.resolve_device(args.device)
    described = host.describe()
    path = files.RESULTS / f"decode-{files.slug(described, device)}.json"
    kept = _load(path)
    for phase in args.phase.split(","):
        extra = {} if args.ours else _peers(phase)
        contexts = args.context if phase == "decode" else args.prefill_context
        batches = args.batch if phase == "decode" else (1,)
        for dtype, batch, n_kv_heads, context in product(args.dtype.split(","), batches, args.n_kv_heads, contexts):
            shape = Case("", 32, n_kv_heads, 128, context, batch, dtype, device, phase)
            results = _time(shape, extra, args.seconds, args.ours)
            if results:
                kept[repr(shape.shape)] = [r.to_json() for r in results]
                print(row(results), flush=True)
                _save(path, kept, described, speed.calibrate(device).name)
    print(f"written: {path} and {path.with_suffix('.md')}")
    return 0


def _peers(phase: str) -> dict[str, Any]:
    from bench.peers import peers

    return peers(phase)


def _time(shape: Case, extra: dict[str, Any], seconds: float, ours: bool) -> list[Result]:
    """Time every implementation that suits a shape; print and leave out those that do not fit into memory."""
    names = [n for n in registry.suited(shape) if n in (OURS if ours else OURS + NOT_OURS)] + list(extra)
    cases = []
    for name in names:
        case = replace(shape, implementation=name)
        impl = extra.get(name) or registry.implementation(name, shape.phase)
        if inputs.memory_needed(case, impl) <= inputs.RESERVE * host.free_memory(shape.device):
            cases.append(case)
        else:
            print(f"left out, needs {units.binary_bytes(inputs.memory_needed(case, impl))}: {case}", file=sys.stderr)
    results: list[Result] = []
    for _ in range(ATTEMPTS if cases else 0):
        results = list(benchmark.run_cases(cases, seconds_per_case=seconds, extra=extra))
        if not any("other processes took" in r.note for r in results):
            break
    return results


def _best(results: Iterable[Result], names: tuple[str, ...]) -> Result | None:
    return min(
        (r for r in results if r.case.implementation in names and r.median_s),
        key=lambda r: r.median_s or 0.0,
        default=None,
    )


PEERS = (*NOT_OURS, "transformers_sdpa", "transformers_eager", "x_transformers", "x_transformers_flash")
HEAD = [
    "phase",
    "dtype",
    "batch",
    "K/V heads",
    "context",
    "floor",
    "of",
    "our fastest",
    "time",
    "spread",
    "× floor",
    "≤",
]


def header() -> list[str]:
    """The table's first two lines."""
    return ["| " + " | ".join([*HEAD, *PEERS]) + " |", "|" + " --- |" * (len(HEAD) + len(PEERS))]


def row(results: list[Result]) -> str:
    """A line of the table: the results of one shape."""
    best = _best(results, OURS)
    first = results[0]
    cells = [
        first.case.phase,
        first.case.dtype,
        str(first.case.batch),
        str(first.case.n_kv_heads),
        units.tokens(first.case.context) + (" †" if any("other processes took" in r.note for r in results) else ""),
        units.duration(first.floor_s or 0.0),
        first.bound,
    ]
    if best is None or best.median_s is None or best.times_floor is None:
        return "| " + " | ".join(cells) + " | none ran |"
    limit = LIMITS[best.bound]
    cells += [
        best.case.implementation,
        units.duration(best.median_s),
        units.duration(best.iqr_s or 0.0),
        f"{best.times_floor:.2f}",
        f"{limit} {'✓' if best.times_floor <= limit else '✗'}" if best.case.phase == "decode" else "–",
    ]
    times = {r.case.implementation: r.median_s for r in results}
    for name in PEERS:
        time_s = times.get(name)
        cells.append(f"{time_s / best.median_s:.2f}" if time_s else "–")
    return "| " + " | ".join(cells) + " |"


def _load(path: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads(path.read_text())["shapes"] if path.exists() else {}


def _place(case: Case) -> tuple[Any, ...]:
    """Where a shape stands in the table."""
    return (case.phase, case.dtype, case.batch, -case.n_kv_heads, case.context)


def _save(path: Path, kept: dict[str, Any], described: host.Host, processor: str) -> None:
    from attention.timing.runs import versions

    path.parent.mkdir(exist_ok=True)
    about = {
        "host": described.to_json(),
        "processor": processor,
        "versions": {**versions(), "x-transformers": host.package_version("x-transformers")},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps({**about, "shapes": kept}, indent=1, sort_keys=True) + "\n")
    rows = [[Result.from_json(r) for r in results] for results in kept.values()]
    rows.sort(key=lambda results: _place(results[0].case))
    lines = [
        f"# Decode and prefill on {processor}",
        "",
        f"{described.cores} cores, {described.threads} threads, {', '.join(described.features)}; {described.system}; "
        f"Python {described.python}, PyTorch {described.torch}; 32 query heads, head_dim 128. "
        f"Finished {about['finished']}.",
        "",
        "The floor is max(bytes ÷ read bandwidth, flops ÷ matmul rate), both measured between the runs of the same "
        "shape. The peers' columns are their time divided by that of our fastest. Prefill has no limit set. "
        "† other processes took more than a tenth of the processor meanwhile: the figure is an upper limit at best.",
        "",
        *header(),
        *(row(r) for r in rows),
    ]
    notes = path.with_suffix(".notes.md")
    if notes.exists():
        lines += ["", notes.read_text().strip()]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
