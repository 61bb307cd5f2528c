"""One command for a machine with a GPU, torch and Triton, and no network: it writes its results after every step.

    python -m bench.gpu [--device cuda] [--minutes 6] [--stages NAMES] [--out FOLDER]

The CUDA tests run first. Then decode and prefill are timed, the most important shapes first, then every kind of cache
(``bench/kinds.py``), then a model's whole step. The stages are independent: if one fails, the command says so and runs
the next. Every finished shape is written at once, so nothing is lost when the time runs out. FOLDER receives run.json
(a run for attention/data/runs, which the Timings page can read), table.md, kinds.json, kinds.md and steps.json. Only
the tests of the chosen stages run, and they take at most two fifths of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from attention import units
from attention.kernels import registry
from attention.kernels.case import Case, Result
from attention.timing import benchmark, host, inputs, model_step, runs, speed
from bench import decode, kinds

HELP = "everything that is timed on a GPU, in one command"
TESTS = ("tests/kernels/test_cuda.py", "tests/timing/test_host.py", "tests/timing/test_speed.py")
KIND_TESTS = ("tests/kernels/test_kinds_triton.py",)
TESTS_SHARE = 0.4
TEST_PROCESSES = 4
STAGES = ("tests", "attention", "kinds", "steps")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=6.0, help="no shape is begun after this time (6)")
    parser.add_argument("--seconds", type=float, default=0.05, help="for each implementation of a shape (0.05)")
    parser.add_argument("--stages", default=",".join(STAGES), help="those to run (all)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/gpu"), help="folder for what was measured")
    args = parser.parse_args(argv)
    end = time.monotonic() + 60 * args.minutes
    tests_end = end - (1 - TESTS_SHARE) * 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    device = inputs.resolve_device(args.device)
    wanted = args.stages.split(",")
    if unknown := set(wanted) - set(STAGES):
        parser.error(f"stages must be some of {', '.join(STAGES)}; unknown: {', '.join(sorted(unknown))}")
    # Triton keeps compiled kernels on disk; they are compiled while the tests run
    compiling = kinds.compiling(args.minutes / 2) if device == "cuda" and "kinds" in wanted else None
    files = (*(KIND_TESTS if "kinds" in wanted else ()), *(TESTS if wanted != ["tests", "kinds"] else ()))
    stages: tuple[tuple[str, Callable[[], None]], ...] = (
        ("tests", lambda: _tests(files, tests_end, device == "cuda")),
        ("attention", lambda: _attention(device, end, args.seconds, args.out)),
        ("kinds", lambda: _kinds(device, end, args.seconds, args.out)),
        ("steps", lambda: _steps(device, end, args.out)),
    )
    failed = []
    for name, stage in stages:
        if name not in wanted:
            continue
        if compiling is not None and name != "tests":
            kinds.wait_for(compiling, max(1.0, min(kinds.WARM_SECONDS, (end - time.monotonic()) / 4)))
            compiling = None
        start = time.monotonic()
        try:
            stage()
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"== {name}: {time.monotonic() - start:.0f} s{' FAILED' if name in failed else ''}", flush=True)
    return 1 if failed else 0


def _kinds(device: str, end: float, seconds: float, out: Path) -> None:
    """Run ``bench.kinds`` in its own process; start another one after a kernel made the device unusable for the first.

    Raises:
        RuntimeError: a set failed, or a process had to be replaced.
    """
    begin = 1
    while True:
        left = (end - time.monotonic()) / 60
        command = [sys.executable, "-m", "bench.kinds", "--device", device, "--minutes", f"{left:.3f}"]
        command += ["--seconds", str(seconds), "--out", str(out), "--begin", str(begin)]
        code = subprocess.run(command, check=False).returncode
        if code <= kinds.BROKEN:
            break
        begin = code - kinds.BROKEN + 1
    if code or begin > 1:
        raise RuntimeError(f"kinds: exit code {code}, begun last at set {begin}")


def _tests(files: tuple[str, ...], end: float, on_gpu: bool) -> None:
    # without the plugins and settings of the project's own test run: they may not be installed here
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", "--import-mode=importlib"]
    command += ["--noconftest", "-p", "no:cacheprovider", *files]
    # several processes, because tests mostly wait for compilers
    command += ["-n", str(TEST_PROCESSES)] if on_gpu and find_spec("xdist") else []
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, check=True, env=environment, timeout=max(1.0, end - time.monotonic()))


def _shapes(device: str) -> Iterator[list[Case]]:
    """Lists of shapes that are compared with one another, the most informative first."""
    contexts = (16_384, 4_096, 65_536, 1_024, 131_072) if device == "cuda" else (1_024, 4_096)
    heads = (32, 8, 1)
    for batch, dtype in ((1, "bfloat16"), (8, "bfloat16"), (1, "float32"), (32, "bfloat16"), (1, "float16")):
        for context in contexts:
            yield [Case("", 32, n, 128, context, batch, dtype, device) for n in heads]
    for dtype in ("bfloat16", "float32"):
        for context in (2_048, 8_192) if device == "cuda" else (256,):
            yield [Case("", 32, n, 128, context, 1, dtype, device, "prefill") for n in heads]


def _attention(device: str, end: float, seconds: float, out: Path) -> None:
    described, calibration = host.describe(), speed.calibrate(device)
    print(json.dumps(calibration.to_json()), flush=True)
    results: list[Result] = []
    for number, shapes in enumerate(_shapes(device), 1):
        if time.monotonic() > end:
            print(f"out of time before {shapes[0]}", flush=True)
            break
        cases = [replace(shape, implementation=name) for shape in shapes for name in registry.suited(shape)]
        limit = 0.8 * host.free_memory(device)
        cases = [case for case in cases if inputs.memory_needed(case) < limit]
        try:
            timed = [
                replace(r, together=10 * number + r.together)
                for r in benchmark.run_cases(cases, seconds_per_case=seconds)
            ]
        except (RuntimeError, ValueError) as error:
            print(f"failed: {shapes[0]}: {error}", flush=True)
            continue
        results += timed
        for result in timed:
            if result.median_s is None or result.unsteady:
                print(f"{result.unsteady or result.note}: {result.case}", flush=True)
        for shape in shapes:
            own = [result for result in timed if result.case.n_kv_heads == shape.n_kv_heads]
            if own:
                print(decode.row(own), flush=True)
        run = runs.new(results, host=described.to_json(), calibration=calibration.to_json(), source="recorded")
        (out / "run.json").write_text(run.dumps() + "\n")
        _table(results, calibration.name, out)


def _table(results: list[Result], processor: str, out: Path) -> None:
    shapes: dict[tuple, list[Result]] = {}
    for r in results:
        c = r.case
        shapes.setdefault((c.phase, c.dtype, c.batch, c.n_kv_heads, c.context), []).append(r)
    lines = [f"# Decode and prefill on {processor}", "", *decode.header(), *(decode.row(rs) for rs in shapes.values())]
    (out / "table.md").write_text("\n".join(lines) + "\n")


def _steps(device: str, end: float, out: Path) -> None:
    """Time Llama 3.1 8B's layer with different numbers of K/V heads, at short and long contexts."""
    kept = []
    contexts = (1_024, 8_192, 32_768) if device == "cuda" else (256,)
    for batch in (1, 32) if device == "cuda" else (1,):
        for context in contexts:
            if time.monotonic() > end:
                return
            cases = [
                model_step.StepCase(name, 32, 4096, 14336, 32, n, 128, context, batch, "bfloat16", device, batch == 1)
                for name, n in model_step.variants(32, 8)
            ]
            try:
                results = list(model_step.run_steps(cases, seconds_per_case=0.2))
            except (RuntimeError, ValueError) as error:
                print(f"failed: {cases[0]}: {error}", flush=True)
                continue
            for result in results:
                kept.append(result.to_json())
                prefill = "–" if result.prefill_s is None else units.duration(result.prefill_s)
                print(
                    f"{result.case.variant} batch {batch} context {context:,}: a token "
                    f"{units.duration(result.token_s)}, {result.times_floor:.2f}× floor, prefill {prefill}",
                    flush=True,
                )
                (out / "steps.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
