"""A model's decode step beside its floor and beside the same layer in plain PyTorch, in the same rounds.

    python -m bench.step [--context 1024,8192,32768] [--dtype float32,bfloat16] [--seconds 2]

It times Llama 3.1 8B's layer as MHA, GQA-8 and MQA at batch 1. The layers of one context take turns, so every ratio
comes from one run. A second table compares products of a weight with a few vectors: our native product against
PyTorch's, with the rate at which each reads its weight. The command writes bench/results/step-HOST.json and .md.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from functools import partial
from statistics import median

import torch

from attention import units
from attention.commands.arguments import numbers
from attention.kernels import matvec
from attention.timing import host, inputs, model_step, speed
from attention.timing.rounds import Rounds, Timed
from attention.timing.runs import versions
from attention.timing.steadiness import interval, ratio_interval, why_unsteady
from attention.timing.step_cases import StepCase, StepResult
from bench import files

HELP = "a whole decode step against its floor and against plain PyTorch"
MOST = 1.3
"""A step may take at most this many times its floor."""
LEAST = 2.0
"""At a context of 32k a step with shared heads must be this many times as fast as plain PyTorch."""
HEAD = "| dtype | context | sharing | floor | step | × floor | ≤ | plain PyTorch | × as fast | 95 % | steady |"
KINDS = ("float32", "bfloat16", "int8", "q4_0", "q4_1")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--context", type=numbers, default=(1024, 8192, 32768))
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--batch", type=numbers, default=(1, 8), help="of the products")
    parser.add_argument("--seconds", type=float, default=2.0, help="per layer")
    args = parser.parse_args(argv)
    lines, kept = [HEAD, "|" + " --- |" * 11], []
    for dtype in args.dtype.split(","):
        for context in args.context:
            cases = [
                StepCase(name, 32, 4096, 14336, 32, n, 128, context, 1, dtype, "cpu", False)
                for name, n in model_step.variants(32, 8)
            ]
            for result in model_step.run_steps(cases, seconds_per_case=args.seconds):
                kept.append(result.to_json())
                lines.append(row(result))
                print(lines[-1], flush=True)
    products = ["| weights | vectors | native | reads GB/s | memory | × floor | PyTorch ÷ native | 95 % | steady |"]
    products.append("|" + " --- |" * 9)
    for batch in args.batch:
        for line in _products(batch, args.seconds):
            products.append(line)
            print(line, flush=True)
    _write(kept, lines, products)
    return 0


def row(r: StepResult) -> str:
    """A line of the table: the result of one layer."""
    ratio = ratio_interval(r.plain_times_s, r.times_s)
    cells = [
        r.case.dtype,
        units.tokens(r.case.context),
        r.case.variant,
        units.duration(r.floor_s * r.case.n_layers),
        units.duration(r.token_s),
        f"{r.times_floor:.2f}",
        "✓" if r.times_floor <= MOST else "✗",
        "–" if r.plain_s is None else units.duration(r.plain_s),
        "–" if ratio is None else f"{ratio.mid:.2f}",
        "–" if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}",
        r.unsteady or "yes",
    ]
    return "| " + " | ".join(cells) + " |"


@torch.inference_mode()
def _products(batch: int, seconds: float) -> list[str]:
    """Lines of the second table: every kind of weight with the shape of Llama 3.1 8B's largest matrix, native and in
    PyTorch, in the same rounds."""
    rounds = Rounds("cpu", "float32", speed.calibrate("cpu"))
    wide = inputs.random_tensor((14336, 4096), torch.float32, "cpu")
    timed: dict[str, tuple[Timed, Timed | None]] = {}
    for kind in KINDS:
        weight: matvec.Weight
        if kind == "int8":
            weight = matvec.Int8Rows.of(wide)
        elif kind.startswith("q4"):
            weight = matvec.Q4Blocks.of(wide, kind)
        else:
            weight = wide.to(getattr(torch, kind))
        x = inputs.random_tensor((batch, 4096), torch.float32, "cpu")
        library = None
        if isinstance(weight, torch.Tensor):
            x = x.to(weight.dtype)
            library = Timed(partial(torch.nn.functional.linear, x, weight), weight.nbytes, 2 * batch * wide.numel())
        timed[kind] = Timed(partial(matvec.matvec, weight, x), weight.nbytes, 2 * batch * wide.numel()), library
    everything = [thing for pair in timed.values() for thing in pair if thing]
    for thing in everything:
        thing.run()
    for _ in rounds.take(everything, seconds * len(everything), lambda: False):
        pass
    memory, _ = rounds.rates(everything)
    out = []
    for kind, (own, library) in timed.items():
        times = rounds.counted(own)
        ratio = ratio_interval(rounds.counted(library), times) if library else None
        rate = own.n_bytes / median(times)
        cells = [
            kind,
            str(batch),
            f"{units.duration(median(times))} ± {interval(times).half_width:.0%}",
            f"{rate / 1e9:.1f}",
            f"{memory / 1e9:.1f}",
            f"{memory / rate:.2f}",
            "–" if ratio is None else f"{ratio.mid:.2f}",
            "–" if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}",
            why_unsteady(times, rounds.loads) or "yes",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return out


def _write(kept: list[dict], lines: list[str], products: list[str]) -> None:
    described = host.describe()
    path = files.RESULTS / f"step-{files.slug(described, 'cpu')}.json"
    path.parent.mkdir(exist_ok=True)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"host": described.to_json(), "versions": versions(), "finished": finished}
    path.write_text(json.dumps({**about, "steps": kept, "products": products}, indent=1, sort_keys=True) + "\n")
    text = [
        f"# A decode step on {described.cpu}",
        "",
        f"{described.cores} cores, {described.threads} threads, {', '.join(described.features)}; PyTorch "
        f"{described.torch}. Llama 3.1 8B's layer times 32, batch 1, without the output head. Finished {finished}.",
        "",
        "The floor is max(bytes ÷ read bandwidth, flops ÷ matmul rate), measured between the runs. Plain PyTorch is "
        f"the same layer in the same rounds. Limits: {MOST} times the floor; with shared heads at 32k {LEAST:g} times "
        "as fast as plain PyTorch.",
        "",
        *lines,
        "",
        "Products of weights [14336, 4096] and a few vectors; the memory's rate is the larger of what reading and what "
        "one of them reached.",
        "",
        *products,
    ]
    path.with_suffix(".md").write_text("\n".join(text) + "\n")
    print(f"written: {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    sys.exit(main())
