"""Time every kind of cache on one device, beside other libraries' kernels and the machine's limit.

    python -m bench.kinds [--device cuda] [--minutes 3] [--out FOLDER]

The shapes form sets, the most informative first. The cases of a set are timed in the same rounds. Every finished set is
written at once to kinds.json (the results and the host) and kinds.md (a table, and the ratios within each set).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from attention import units
from attention.kernels.kinds import inputs, names, registry
from attention.kernels.kinds.case import KindCase, KindResult, kind_bytes
from attention.kernels.kinds.shapes import expanded, full, latent, quantised, shared, sparse, window
from attention.timing import host, kind_runs, kinds, runs, speed
from attention.timing.inputs import resolve_device
from attention.timing.steadiness import ratio_interval

HELP = "every kind of cache: latents, windows, quantised rows, several new tokens"
PEERS = ("flash", "cudnn", "efficient", "flex", "flashinfer")
WARMERS = 12
"""At most this many processes compile at the same time; each of them loads torch and opens the device."""
WARM_SECONDS = 75.0


class Set:
    """Shapes that are timed in the same rounds, by the implementations of `only` (empty: by all but flex)."""

    def __init__(self, title: str, shapes: Sequence[KindCase], only: tuple[str, ...] = ()) -> None:
        self.title, self.shapes, self.only = title, shapes, only

    def cases(self, device: str) -> list[KindCase]:
        """Every shape with every implementation that suits it. FlexAttention must be named: it compiles too long."""
        found = []
        for shape in self.shapes:
            own = replace(shape, device=device)
            allowed = self.only or tuple(name for name in registry.IMPLEMENTATIONS if name != "flex")
            found += [replace(own, implementation=name) for name in registry.suited(own) if name in allowed]
        return found


OWN = ("triton", "native", "plain")
"""Our implementations, the fastest first; which of them run depends on the device."""
OURS = ("triton", "flash", "cudnn")
"""The implementations for shapes that only show how a kind scales."""


def sets(device: str) -> Iterator[Set]:
    """The sets to time on a device, the most informative first."""
    if device == "cpu":
        yield from _small()
        return
    k = 1024
    yield Set("MLA: absorbed, expanded, sparse", [f(context=16 * k) for f in (latent, expanded, sparse)])
    yield Set("Quantised caches", quantised(context=32 * k))
    yield Set("Windows and K = V", [full(context=32 * k), window(1024, context=32 * k), shared(context=32 * k)])
    yield Set("Several new tokens", [f(context=16 * k, q_len=n) for f in (full, latent) for n in (1, 2, 4, 8)])
    yield Set("Sparse at 128k", [latent(context=128 * k), sparse(context=128 * k)], ("triton", "plain"))
    yield Set("Batch 32", [*quantised(context=8 * k, batch=32), latent(context=8 * k, batch=32)], OURS)
    sizes = [full(head_dim=n, context=16 * k) for n in (64, 80, 96, 128, 256)]
    yield Set("Head sizes", [*sizes, full(head_dim=192, value_dim=128, context=16 * k)])
    yield Set("Quantised, MHA", quantised(32, context=16 * k), OURS)
    yield Set("Quantised, float16", quantised(context=32 * k, dtype="float16"), OURS)
    yield Set("MLA, float16", [f(context=16 * k, dtype="float16") for f in (latent, sparse)], OURS)
    yield Set(
        "MLA, fp8", [latent(context=16 * k), latent(context=16 * k, k_format="fp8-head", v_format="fp8-head")], OURS
    )
    yield Set("FlexAttention", [full(context=32 * k)], ("triton", "flash", "flex"))
    for batch, contexts in ((8, (16, 4, 64, 1)), (1, (4, 64, 1, 128)), (32, (16, 1, 4, 64)), (8, (128,))):
        for context in contexts:
            where = {"context": context * k, "batch": batch}
            found = [full(**where), full(k_format="fp8-head", v_format="fp8-head", **where)]
            found += [full(k_format="int4-g32", v_format="int4-g32", **where), full(q_len=4, **where)]
            found += [window(1024, **where), shared(**where), latent(**where), sparse(**where)]
            yield Set(f"Batch {batch}, {context}k", found, OURS)


def _small() -> Iterator[Set]:
    """The sets for a processor: the native kernels at contexts where memory binds, then hundreds of positions beside
    the plain versions. These widen a whole cache, so longer contexts would take too long."""
    k = 1024
    native = ("native",)
    yield Set("MLA at 16k: absorbed, expanded", [f(context=16 * k) for f in (latent, expanded)], native)
    for heads in (32, 8):
        yield Set(f"Quantised at 16k, {heads} K/V heads", quantised(heads, context=16 * k), native)
    for context in (4 * k, 32 * k):
        where = {"context": context}
        found = [full(**where), full(32, **where), latent(**where), window(1024, **where), shared(**where)]
        yield Set(f"Kinds at {context // k}k", found, native)
    yield Set("Several new tokens at 16k", [full(context=16 * k, q_len=n) for n in (1, 2, 4, 8)], native)
    yield Set("Kinds at 16k, float32", [f(context=16 * k, dtype="float32") for f in (full, latent, shared)], native)
    yield Set("MLA: absorbed, expanded", [replace(f(context=128), dtype="float32") for f in (latent, expanded)])
    yield Set("Sparse", [replace(f(context=256), dtype="float32") for f in (latent, sparse)])
    yield Set("Quantised caches", quantised(context=256, dtype="float32"))
    shapes = [full(context=1024), window(256, context=1024), shared(context=1024)]
    yield Set("Windows and K = V", [replace(shape, dtype="float32") for shape in shapes])
    yield Set("Several new tokens", [full(context=512, q_len=n, dtype="float32") for n in (1, 8)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kinds", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=3.0, help="no set is begun after this time (3)")
    parser.add_argument("--seconds", type=float, default=0.05, help="for each case (0.05)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/gpu"), help="folder for what was measured")
    parser.add_argument(
        "--begin", type=int, default=1, help="the first set to time; earlier ones' results are kept (1)"
    )
    parser.add_argument("--warm", action="store_true", help="only compile what will be timed, in several processes")
    args = parser.parse_args(argv)
    end = time.monotonic() + 60 * args.minutes
    device = resolve_device(args.device)
    if args.warm:
        warm(device, end)
        return 0
    return run(device, end, args.seconds, args.out, args.begin)


BROKEN = 100


def run(device: str, end: float, seconds: float, out: Path, begin: int = 1) -> int:
    """Time the sets from number `begin` on; begin none after `end` (seconds of the monotonic clock).

    Returns:
        The number of sets that failed; or BROKEN plus a set's number, if the process cannot use the device after it.
    """
    out.mkdir(parents=True, exist_ok=True)
    described, calibration = host.describe(), speed.calibrate(device)
    kept = out / "kinds.json"
    results = list(kind_runs.parse(kept.read_bytes()).results) if begin > 1 and kept.exists() else []
    failed = 0
    print(header(), flush=True)
    for number, one in enumerate(sets(device), 1):
        if number < begin:
            continue
        if time.monotonic() > end:
            print(f"out of time before: {one.title}", flush=True)
            break
        start = time.monotonic()
        cases = [case for case in one.cases(device) if _fits(case)]
        try:
            timed = list(
                kinds.run_set(
                    cases, number=number, seconds_per_case=seconds, should_stop=lambda: time.monotonic() > end + 20
                )
            )
        except (RuntimeError, ValueError) as error:
            print(f"failed: {one.title}: {error}", flush=True)
            failed += 1
            timed = []
            if _is_broken(device):
                return BROKEN + number
        if device == "cuda":
            torch.cuda.empty_cache()
        results += timed
        for shape in dict.fromkeys(result.case.shape for result in timed):
            print(row([result for result in timed if result.case.shape == shape]), flush=True)
        for result in timed:
            if result.note or result.unsteady:
                print(
                    f"  {result.case.implementation}, {label(result.case)}: {result.note or result.unsteady}",
                    flush=True,
                )
        print(f"  {one.title}: {time.monotonic() - start:.1f} s", flush=True)
        _save(results, described, calibration, out)
    return failed


def _is_broken(device: str) -> bool:
    """Whether the device only gives errors, as it does after this process has read or written foreign memory."""
    try:
        speed.synchronize(device)
    except RuntimeError:
        return True
    return False


def _fits(case: KindCase) -> bool:
    try:
        kinds.check(case)
    except ValueError as error:
        print(f"  left out: {case.implementation}, {label(case)}: {error}", flush=True)
        return False
    return True


def compiling(minutes: float) -> subprocess.Popen[bytes]:
    """Run :func:`warm` in the background; the process that does it."""
    command = [sys.executable, "-m", "bench.kinds", "--warm", "--minutes", str(minutes)]
    return subprocess.Popen(command, start_new_session=True)


def wait_for(found: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait at most `seconds` for the compiling process, then end it: nothing is timed while a compiler runs.

    The remaining kernels are compiled when they are first called.
    """
    try:
        found.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(found.pid, signal.SIGKILL)
        found.wait()
        print("compiling took too long: the rest is compiled when it is asked for", flush=True)


def warm(device: str, end: float) -> None:
    """Compile the kernels that Triton will need, in several processes; its cache on disk keeps them for the timing."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    wanted: dict[tuple, tuple[KindCase, int]] = {}
    for one in sets(device):
        for case in one.cases(device):
            if case.implementation == "triton":
                for context in (512, 64):  # split, and in one piece
                    kept = replace(case, context=max(context, case.q_len), batch=1)
                    wanted.setdefault(kept.shape, (kept, context))
    # split first: that is what batch 1 asks for
    order = sorted(wanted.values(), key=lambda found: -found[1])
    with ProcessPoolExecutor(max(1, min(WARMERS, (os.cpu_count() or 1) - 6)), mp_context=get_context("spawn")) as pool:
        for case, _ in order:
            pool.submit(_compile, case, end)


def _compile(case: KindCase, end: float) -> None:
    if time.monotonic() < end:
        with contextlib.suppress(Exception), torch.inference_mode():  # a failure is reported when the kernel is timed
            registry.implementation("triton").run(*inputs.make(case))


def label(case: KindCase) -> str:
    """A shape in a few words: kind, heads and sizes, then what is not usual, data type, batch and context."""
    cache_format = case.k_format if case.k_format == case.v_format else f"{case.k_format}/{case.v_format}"
    parts = [names.KINDS[case.kind].label, f"{case.n_heads}/{case.n_kv_heads} × {case.head_dim}"]
    if case.value_dim != case.head_dim:
        parts[-1] += f"/{case.value_dim}"
    parts += [f"window {case.window}"] if case.window else []
    parts += [f"{case.q_len} new tokens"] if case.q_len > 1 else []
    parts += [] if cache_format == "dtype" else [cache_format]
    return ", ".join([*parts, case.dtype, f"batch {case.batch}", units.tokens(case.context)])


_HEAD = ("shape", "floor", "of", "ours", "spread", "× floor", "error", "plain", *PEERS)


def header() -> str:
    """The table's first two lines."""
    return "| " + " | ".join(_HEAD) + " |\n|" + " --- |" * len(_HEAD)


def row(results: Sequence[KindResult]) -> str:
    """A line of the table: the results of one shape. The peers' columns give their time divided by ours."""
    by_name = {result.case.implementation: result for result in results}
    ours = next((by_name[name] for name in OWN if name in by_name), results[0])
    cells = [label(ours.case), units.duration(ours.floor_s or 0.0), ours.bound]
    if ours.median_s is None:
        return "| " + " | ".join([*cells, ours.note or "not run"]) + " |"
    error = "–" if ours.error is None else f"{ours.error:.1e}"
    star = "" if ours.case.implementation == "triton" else f" ({ours.case.implementation})"
    cells += [
        units.duration(ours.median_s) + star,
        units.duration(ours.iqr_s or 0.0),
        f"{ours.times_floor or 0:.2f}",
        error,
    ]
    for name in ("plain", *PEERS):
        other = by_name.get(name)
        cells.append(f"{other.median_s / ours.median_s:.2f}" if other and other.median_s else "–")
    return "| " + " | ".join(cells) + " |"


def ratios(results: Sequence[KindResult]) -> list[str]:
    """A table of time ratios: our kernel on each shape of a set over the set's first shape, round by round."""
    lines = ["| set | shape | time over the first's | 95 % interval | bytes over the first's |", "|" + " --- |" * 5]
    for number in dict.fromkeys(result.together for result in results):
        own = [r for r in results if r.together == number and r.median_s]
        best = next((ours for name in OWN if (ours := [r for r in own if r.case.implementation == name])), [])
        for other in best[1:]:
            found = ratio_interval(other.times_s, best[0].times_s)
            if found and not other.unsteady and not best[0].unsteady:
                share = kind_bytes(other.case) / kind_bytes(best[0].case)
                around = f"{found.low:.3f}–{found.high:.3f}"
                lines.append(f"| {number} | {label(other.case)} | {found.mid:.3f} | {around} | {share:.3f} |")
    return lines


def _save(results: Sequence[KindResult], described: host.Host, calibration: speed.Calibration, out: Path) -> None:
    if not results:
        return
    (out / "kinds.json").write_text(
        kind_runs.dumps(
            results,
            host=described.to_json(),
            calibration=calibration.to_json(),
            versions={**runs.versions(), "triton": host.package_version("triton") or "not installed"},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        + "\n"
    )
    lines = [f"# Kinds of cache on {calibration.name}", ""]
    lines += [
        json.dumps(calibration.flops_per_s) + f", reading {units.decimal(calibration.read_bytes_per_s, 'B/s')}",
        "",
    ]
    lines += [header()]
    for number in dict.fromkeys(result.together for result in results):
        own = [result for result in results if result.together == number]
        lines += [row([r for r in own if r.case.shape == shape]) for shape in dict.fromkeys(r.case.shape for r in own)]
    (out / "kinds.md").write_text("\n".join([*lines, "", *ratios(results)]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
