"""``python -m attention convert``: convert a checkpoint to fewer K/V heads."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention.commands.arguments import whole_number
from attention.errors import shown
from attention.files import ordinary

if TYPE_CHECKING:
    from attention.convert.refine import LayerReport
    from attention.convert.report import Report
    from attention.convert.run import Progress
    from attention.convert.streamed import Calibration

TOKENS = 2**14
"""How many tokens of the calibration text are used by default."""

HELP = "convert a Hugging Face checkpoint to fewer K/V heads (MHA or GQA to GQA or MQA)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="folder with config.json and safetensors; only read")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to make")
    parser.add_argument("--n-kv-heads", type=int, required=True, metavar="K", help="K/V heads of the result")
    parser.add_argument(
        "--pool",
        choices=("mean", "first", "random", "calibrated"),
        default="mean",
        help="how the heads of a group become one: their mean (default), the first of them, fresh random weights, or "
        "what loses least on a text (calibrated)",
    )
    own = parser.add_argument_group("of --pool calibrated")
    default_text = "three quarters of Python's own language reference, pydoc_data.topics"
    own.add_argument("--calibration", type=Path, metavar="FILE", help=f"UTF-8 text (default: {default_text})")
    own.add_argument("--tokens", type=whole_number, metavar="N", help=f"of it to use (default {TOKENS:,})")
    own.add_argument("--grouping", choices=("best", "neighbours"), help="heads that become one (default best)")
    own.add_argument("--refine", type=int, metavar="STEPS", help="of each layer's fit; 0: merge alone (default 100)")
    own.add_argument("--evaluate", action="store_true", help="also measure the loss before and after on held-out text")
    own.add_argument("--device", help="where layers run: cpu (default), cuda, …")
    parser.add_argument("--seed", type=int, default=0, help="of --pool random (default 0)")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="cast all weights (default: as they are)")
    parser.add_argument("--check", action="store_true", help="afterwards have transformers open the result in a fresh "
                        "process and generate from it; needs memory for the whole model")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check and report, write nothing")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(args: argparse.Namespace) -> int:
    ordinary(args.source / "config.json")  # before the import of PyTorch, which takes seconds
    from attention.convert.run import convert

    calibration = _calibration(args)
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
            calibration=calibration,
            layer_done=_Layers(),
        )
    except OSError as error:
        # a full disk or a lost mount is nobody's mistake, so no traceback is shown
        raise ValueError(
            f"{error.strerror or error}; {args.source} is as it was, {args.target} was not made"
        ) from error
    if args.check and not args.dry_run:
        from attention.convert.served import check

        report = replace(report, served=check(args.target))
    print(json.dumps(report.to_json(), indent=2) if args.json else text(report))
    return 0


def _calibration(args: argparse.Namespace) -> Calibration | None:
    """Text and settings of a calibrated conversion; None for any other.

    Raises:
        ValueError: an option of --pool calibrated with another pool, or a text that cannot be used.
    """
    given = {n: getattr(args, n) for n in ("calibration", "tokens", "grouping", "refine", "evaluate", "device")}
    if args.pool != "calibrated":
        if named := [f"--{name}" for name, value in given.items() if value not in (None, False)]:
            raise ValueError(f"{', '.join(named)} belongs to --pool calibrated, got --pool {args.pool}")
        return None
    from attention.convert import text as texts
    from attention.convert.refine import Settings
    from attention.convert.streamed import Calibration

    settings = Settings(
        grouping=args.grouping or "best", refine_steps=100 if args.refine is None else args.refine, seed=args.seed
    )
    tokens, held_out, text = texts.windows(
        args.source, args.calibration, TOKENS if args.tokens is None else args.tokens, _tokens_of(args.source)
    )
    device = texts.device(args.device or "cpu")
    return Calibration(tokens, text, settings, device, held_out if args.evaluate else None)


def _tokens_of(source: Path) -> Callable[[str, int], Any]:
    """(text, size of the vocabulary) -> tokens, by the checkpoint's own tokenizer, or bytes where it has none."""
    from attention.uptrain.data import load_tokenizer, token_ids

    tokenizer = load_tokenizer(source)

    def tokens(text: str, vocabulary: int) -> Any:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
            file.write(text)
            file.flush()
            return token_ids([Path(file.name)], tokenizer, vocabulary)

    return tokens


class _Layers:
    """Prints a line per layer on a terminal, with the time that is left."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.done = 0

    def __call__(self, layer: LayerReport, n_layers: int) -> None:
        if not sys.stderr.isatty():
            return
        self.done += 1
        each = (time.monotonic() - self.start) / self.done
        left = each * (n_layers - layer.layer - 1)
        print(
            f"layer {layer.layer + 1} of {n_layers}: attention errs by {layer.error:.1%}, about {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _bar() -> Progress:
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, desc="convert", leave=False)

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return update


def text(report: Report) -> str:
    """The report as text for people."""
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
    if report.calibration is not None:
        lines += _calibration_lines(report.calibration)
    if report.served is not None:
        lines.append(_served_line(report.served))
    if report.files_left_out:
        lines.append(f"  left out    {', '.join(report.files_left_out)}")
    return "\n".join(lines)


def _served_line(served: dict[str, Any]) -> str:
    said = shown(served["text"]) if served["text"] is not None else f"tokens {served['tokens']}"
    return (
        f"  served      by transformers {served['transformers']} in a fresh process: {served['class']} with "
        f"{served['n_kv_heads']} K/V heads wrote {said}"
    )


def _calibration_lines(calibration: dict[str, Any]) -> list[str]:
    size = f"{calibration['tokens']:,} tokens of {calibration['text']}"
    if calibration["short"]:
        size += "; few for so wide heads: directions that the text never shows are ranked by the weights alone"
    lines = [f"  calibrated  on {size}"]
    if calibration["whole_model_in_memory"]:
        lines.append("              with the whole model in memory: its code keeps several tensors in one")
    if "loss_before" in calibration:
        before, after = calibration["loss_before"], calibration["loss_after"]
        lines.append(
            f"  loss        {before:.4f} → {after:.4f} nats/token on {calibration['held_out_tokens']:,} held-out "
            "tokens, before any training"
        )
    lines.append("  layer       kept of keys, values; error of attention merged, refined; heads that became one")
    for layer in calibration["layers"]:
        keys = "  mean" if layer["keys_kept"] is None else f"{layer['keys_kept']:6.1%}"
        groups = " ".join("+".join(map(str, group)) for group in layer["groups"])
        errors = f"{layer['error_merged']:6.1%} {layer['error']:6.1%}"
        lines.append(f"  {layer['layer']:>9}   {keys} {layer['values_kept']:6.1%}; {errors}; {groups}")
    return lines
