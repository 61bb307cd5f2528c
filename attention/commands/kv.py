"""``python -m attention kv``: the cache of published models, exact to the byte."""

from __future__ import annotations

import argparse
import json
from typing import Any

from attention import sharing, units
from attention.catalog.sources import resolve
from attention.commands.arguments import DEFAULT_CONTEXT, dtype_name, whole_number
from attention.configs import gguf_header
from attention.foreign_text import quoted
from attention.formats import FORMATS, cache_format
from attention.memory.allocation import PAGE_TOKENS, WINDOW_POOLS, set_aside
from attention.memory.footprint import cache_bytes, layers_bytes
from attention.memory.load import MAX_CONTEXT, check_batch, check_context
from attention.spec import ModelSpec, check_size
from attention.tables import to_text

HELP = "bytes of a model's KV cache and other states at a context, and what an engine sets aside for them"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="catalogue name, config.json or its folder, or GGUF file"
    )
    parser.add_argument(
        "--context",
        type=whole_number,
        default=DEFAULT_CONTEXT,
        help=f"tokens held per sequence (default {DEFAULT_CONTEXT})",
    )
    parser.add_argument("--batch", type=whole_number, default=1, help="sequences (default 1)")
    parser.add_argument(
        "--kv-dtype",
        type=dtype_name,
        metavar="FORMAT",
        help=f"format of the cache: {', '.join(FORMATS)} (default: the dtype the model states)",
    )
    parser.add_argument(
        "--encoder-context", type=whole_number, help="source tokens, encoder-decoder (default: context)"
    )
    parser.add_argument("--n-kv-heads", type=whole_number, help="as if every attention layer had so many K/V heads")
    parser.add_argument("--tp", type=whole_number, default=1, help="ranks of tensor parallelism (default 1)")
    parser.add_argument(
        "--page-tokens",
        type=whole_number,
        default=PAGE_TOKENS,
        help=f"tokens per page of the engine (default {PAGE_TOKENS})",
    )
    parser.add_argument(
        "--max-context", type=whole_number, help="tokens an engine sets aside for each sequence at once"
    )
    parser.add_argument(
        "--window-pool", choices=WINDOW_POOLS, default="own", help="pool of windowed layers (default own)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per source and line")


def run(args: argparse.Namespace) -> int:
    # an argument that is wrong for every source is refused once, before any source is read
    check_context(args.context)
    check_batch(args.batch)
    for name in ("encoder_context", "max_context", "n_kv_heads", "tp", "page_tokens"):
        if getattr(args, name) is not None:
            check_size(name, getattr(args, name), maximum=MAX_CONTEXT)
    results = []
    for source in args.sources:
        result = _answer(source, args)
        results.append(result)
        if args.json:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    if not args.json:
        print_table(results)
    return 2 if any("error" in result for result in results) else 0


def _answer(source: str, args: argparse.Namespace) -> dict[str, Any]:
    try:
        return describe(resolve(source), source, args)
    except ValueError as error:
        return {"model": source, "error": str(error)}


def describe(spec: ModelSpec, source: str, args: argparse.Namespace) -> dict[str, Any]:
    """The JSON object of one model. Its layers count the whole batch and add up to state_bytes.

    Raises:
        ValueError: the cache's dtype is neither stated nor chosen, or sizes that do not suit this model.
    """
    kv_dtype = args.kv_dtype or spec.model_dtype
    if kv_dtype is None:
        raise ValueError("torch_dtype is not stated, so the cache's dtype is not known; choose one with --kv-dtype")
    if args.n_kv_heads is not None:
        spec = sharing.with_n_kv_heads(spec, args.n_kv_heads)
    encoder = args.encoder_context
    sums = cache_bytes(spec, args.context, args.batch, kv_dtype, encoder)
    held = set_aside(
        spec,
        sums,
        tp=args.tp,
        page_tokens=args.page_tokens,
        max_context=args.max_context,
        window_pool=args.window_pool,
        encoder_context=encoder,
    )
    return {
        "model": source,
        "name": spec.name,
        "model_type": spec.model_type,
        "context": args.context,
        "batch": args.batch,
        "kv_dtype": kv_dtype,
        "bits_per_element": cache_format(kv_dtype).bits_per_element,
        "model_dtype": spec.model_dtype,
        "n_parameters": spec.n_parameters,
        "fixed_bytes": sums.fixed_bytes,
        "bytes_per_token": sums.bytes_per_token,
        "sequence_bytes": sums.sequence_bytes,
        "state_bytes": sums.state_bytes,
        "by_kind": {str(kind): size * args.batch for kind, size in sums.by_kind.items()},
        "tp": args.tp,
        "page_tokens": args.page_tokens,
        "max_context": args.max_context,
        "window_pool": args.window_pool,
        "allocated_bytes": held.allocated_bytes,
        "bytes_per_rank": held.bytes_per_rank,
        "allocation": [{"step": s.name, "bytes": s.bytes_after, "why": s.why} for s in held.steps],
        "layers": [
            {
                "index": layer.index,
                "kind": str(layer.kind),
                "n_kv_heads": layer.n_kv_heads,
                "positions": layer.positions,
                "state_bytes": layer.state_bytes * args.batch,
            }
            for layer in layers_bytes(spec, args.context, kv_dtype, encoder)
        ],
        "notes": [*spec.notes, *_notes(spec, args)],
    }


def _notes(spec: ModelSpec, args: argparse.Namespace) -> list[str]:
    notes = []
    if spec.max_context is not None and args.context > spec.max_context:
        notes.append(f"the model states a longest context of {units.counted(spec.max_context, 'token')}")
    if args.kv_dtype is None and gguf_header.CACHE not in spec.notes:
        notes.append(f"kv_dtype {spec.model_dtype} is the dtype the model states; servers may choose another")
    return notes


_COLUMNS = ("model", "layers", "K/V heads", "format", "per token", "fixed", "states", "set aside", "per rank")


def print_table(results: list[dict[str, Any]]) -> None:
    """Print the results for people: a line per source, then errors and notes."""
    rows = [_COLUMNS]
    for r in results:
        if "error" not in r:
            heads = sorted({layer["n_kv_heads"] for layer in r["layers"] if layer["n_kv_heads"]})
            sizes = (
                r["bytes_per_token"],
                r["fixed_bytes"],
                r["state_bytes"],
                r["allocated_bytes"],
                r["bytes_per_rank"],
            )
            shown = [units.binary_bytes(size) for size in sizes]
            counts = "/".join(map(str, heads)) or "–"
            rows.append((quoted(r["model"]), str(len(r["layers"])), counts, r["kv_dtype"], *shown))
    if len(rows) > 1:
        first = next(r for r in results if "error" not in r)
        print(f"context {units.counted(first['context'], 'token')}, batch {first['batch']:,}")
        print(to_text(rows))
    for r in results:
        for note in [r["error"]] if "error" in r else r["notes"]:
            print(f"{quoted(r['model'])}: {quoted(note, 2000)}")
