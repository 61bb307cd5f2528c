"""``python -m attention fit``: the largest context, the largest batch and the fewest accelerators for a model."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

from attention import units
from attention.catalog.published import accelerator
from attention.catalog.sources import resolve
from attention.commands.arguments import DEFAULT_CONTEXT, dtype_name, memory, whole_number
from attention.configs import gguf_header
from attention.engines import lines as engine_lines
from attention.engines.rules import kernel_of
from attention.errors import shown
from attention.formats import WEIGHT_BITS
from attention.memory.allocation import PAGE_TOKENS, WINDOW_POOLS
from attention.memory.load import check_batch, check_context
from attention.serving.fit import Setup, budget, fits, largest_batch, largest_context, smallest_count
from attention.serving.roofline import decode_floor, traffic_crossover
from attention.spec import ModelSpec

HELP = "what fits on accelerators: largest context, largest batch, fewest accelerators, floor of a decode step"


def parameter_count(text: str) -> int:
    """A number of parameters as typed: 8030261248, 8.03B, 124M (decimal)."""
    scale = {"m": 10**6, "b": 10**9, "t": 10**12}.get(text[-1:].lower(), 1)
    try:
        count = Fraction(text[:-1] if scale > 1 else text) * scale
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"a number of parameters is needed, got {shown(text)}") from None
    if count.denominator != 1:
        raise argparse.ArgumentTypeError(f"a whole number of parameters is needed, got {shown(text)}")
    return int(count)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="catalogue name, config.json or its folder, or GGUF file"
    )
    parser.add_argument("--accelerator", default="h100-sxm", help="id of the catalogue (default h100-sxm)")
    parser.add_argument("--count", type=whole_number, default=1, help="accelerators, as tensor parallel ranks")
    parser.add_argument("--context", type=whole_number, default=DEFAULT_CONTEXT, help="tokens held per sequence")
    parser.add_argument("--batch", type=whole_number, default=1, help="sequences")
    parser.add_argument("--weight-dtype", choices=tuple(WEIGHT_BITS), default="bf16", help="format of the weights")
    parser.add_argument(
        "--kv-dtype", type=dtype_name, metavar="FORMAT", help="format of the cache (default: the model's)"
    )
    parser.add_argument("--utilisation", type=float, default=0.9, help="share of memory that may be used (default 0.9)")
    parser.add_argument("--reserve", type=whole_number, default=2**30, help="bytes kept free on each (default 1 GiB)")
    parser.add_argument("--page-tokens", type=whole_number, default=PAGE_TOKENS, help="tokens per page of the engine")
    parser.add_argument("--window-pool", choices=WINDOW_POOLS, default="own", help="pool of windowed layers")
    parser.add_argument(
        "--parameters", type=parameter_count, help="parameter count (8.03B, 124M), where the source does not state it"
    )
    parser.add_argument(
        "--engine", choices=engine_lines.PREDICTED, help="the lines about its cache that this engine will print"
    )
    parser.add_argument(
        "--memory",
        type=memory,
        help="with --engine: bytes for the cache on each accelerator (40GiB or 40G); --context is its longest request",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per source and line")


def run(args: argparse.Namespace) -> int:
    check_context(args.context)
    check_batch(args.batch)
    if args.engine or args.memory is not None:
        return _predict(args)
    setup = Setup(
        accelerator(args.accelerator),
        args.count,
        args.weight_dtype,
        args.kv_dtype or "bf16",
        args.utilisation,
        args.reserve,
        args.page_tokens,
        args.window_pool,
    )
    failed = False
    for source in args.sources:
        try:
            answer = describe(resolve(source), source, setup, args)
        except ValueError as error:
            answer, failed = {"model": source, "error": str(error)}, True
        print(json.dumps(answer, ensure_ascii=False) if args.json else _text(answer))
    return 2 if failed else 0


def _predict(args: argparse.Namespace) -> int:
    """Print the lines that the engine will print."""
    if not args.engine:
        raise ValueError("--memory needs --engine, whose lines it is for")
    failed = False
    for source in args.sources:
        try:
            spec = resolve(source)
            kernel = kernel_of(spec, source)
            lines = engine_lines.predict(
                args.engine, spec, kernel, args.memory, args.context, args.batch, args.count, args.kv_dtype
            )
            answer: dict[str, Any] = {"model": source, "engine": args.engine}
            answer["lines"] = [line._asdict() for line in lines]
        except ValueError as error:
            answer, failed = {"model": source, "error": str(error)}, True
        shown_lines = [f"{line['text']}\n    {line['says']}" for line in answer.get("lines", ())]
        text = "\n".join([source, *shown_lines]) if "lines" in answer else _text(answer)
        print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 2 if failed else 0


def describe(spec: ModelSpec, source: str, setup: Setup, args: argparse.Namespace) -> dict[str, Any]:
    """The JSON object of one model.

    Raises:
        ValueError: the cache's dtype is neither stated nor chosen, the parameter count is not known, or the heads
            cannot be shared out over the accelerators.
    """
    kv_dtype = args.kv_dtype or spec.model_dtype
    if kv_dtype is None:
        raise ValueError("torch_dtype is not stated, so the cache's dtype is not known; choose one with --kv-dtype")
    setup = replace(setup, kv_dtype=kv_dtype)
    if args.parameters is not None:
        spec = replace(spec, n_parameters=args.parameters)
    space = budget(spec, setup)
    fitting = fits(spec, setup, args.context, args.batch)
    step = decode_floor(
        spec,
        setup.accelerator,
        args.context,
        args.batch,
        count=setup.count,
        weight_dtype=setup.weight_dtype,
        kv_dtype=kv_dtype,
    )
    return {
        "model": source,
        "accelerator": setup.accelerator.id,
        "count": setup.count,
        "context": args.context,
        "batch": args.batch,
        "kv_dtype": kv_dtype,
        "weight_dtype": setup.weight_dtype,
        **space._asdict(),
        "fits": fitting,
        "largest_context": largest_context(spec, setup, args.batch),
        "max_context": spec.max_context,
        "largest_batch": largest_batch(spec, setup, args.context),
        "smallest_count_power_of_two": smallest_count(spec, setup, args.context, args.batch),
        "smallest_count": smallest_count(spec, setup, args.context, args.batch, powers_of_two=False),
        # a load that does not fit has no step
        "floor_time_s": step.floor.time_s if fitting else None,
        "floor_tokens_per_s": step.tokens_per_s if fitting else None,
        "floor_binds": step.floor.binds if fitting else None,
        "traffic_crossover_context": traffic_crossover(spec, setup.weight_dtype, kv_dtype, args.batch),
        "notes": [*_recognised(spec), *step.notes],
    }


def _recognised(spec: ModelSpec) -> tuple[str, ...]:
    """The notes of a GGUF file; empty for a config.json."""
    return spec.notes if gguf_header.CACHE in spec.notes else ()


def _text(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"{answer['model']}: {answer['error']}"
    size = units.binary_bytes

    def tokens(n: int | None) -> str:
        return "no limit" if n is None else f"{n:,}"

    lines = [
        f"{answer['model']} on {answer['count']} × {answer['accelerator']}, context {answer['context']:,}, "
        f"batch {answer['batch']:,}, weights {answer['weight_dtype']}, cache {answer['kv_dtype']}",
        "  this load fits" if answer["fits"] else "  this load does not fit",
        f"  each: {size(answer['usable_bytes'])} usable − {size(answer['reserve_bytes'])} reserve "
        f"− {size(answer['weight_bytes'])} weights = {size(answer['state_room_bytes'])} for states",
        f"  largest context at this batch: {tokens(answer['largest_context'])}"
        f" (the model states {tokens(answer['max_context']) if answer['max_context'] else 'none'})",
        f"  largest batch at this context: {answer['largest_batch']:,}",
        f"  fewest accelerators: {answer['smallest_count_power_of_two'] or 'none'} (powers of two), "
        f"{answer['smallest_count'] or 'none'} (any)",
        "  decode step: none without room for it"
        if not answer["fits"]
        else f"  decode step: at least {units.duration(answer['floor_time_s'])}, at most "
        f"{units.significant(answer['floor_tokens_per_s'])} tokens/s; {answer['floor_binds']} binds (a bound)",
        f"  a step reads more cache than weights from {tokens(answer['traffic_crossover_context'])} tokens on",
    ]
    return "\n".join(lines + [f"  {note}" for note in answer["notes"]])
