"""``python -m attention generate``: the published model writes, with its K/V heads as published, copied or merged."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from attention.commands.arguments import tell_of_waiting, whole_number
from attention.llm.plan import CACHE_DTYPES, MERGES, SHARINGS, Plan
from attention.llm.written import ENDS, Written
from attention.units import binary_bytes, duration

HELP = "have the published model write: as published, with copied K/V heads (MHA), or with merged ones (MQA)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="what it is asked; - reads standard input")
    parser.add_argument(
        "--sharing",
        nargs="+",
        choices=SHARINGS,
        default=["gqa"],
        help="gqa: as published (default); mha: K/V heads copied to query heads; mqa: all merged; several take turns",
    )
    parser.add_argument("--tokens", type=whole_number, default=64, help="most tokens written (default 64)")
    parser.add_argument("--kv-dtype", choices=CACHE_DTYPES, default="bf16", help="of the cache (default bf16)")
    parser.add_argument("--v-dtype", choices=CACHE_DTYPES, default="", help="of its values, if other than the keys'")
    parser.add_argument("--merge", choices=MERGES, default="mean", help="how mqa's heads become one (default mean)")
    parser.add_argument(
        "--context-fill", type=whole_number, default=0, help="tokens of a long text put into the cache beforehand"
    )
    parser.add_argument("--batch", type=whole_number, default=1, help="sequences at once, the first is printed")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): the likeliest token each time")
    parser.add_argument("--seed", type=whole_number, default=0, help="of the draws, where the temperature is above 0")
    parser.add_argument("--continue", dest="goes_on", action="store_true", help="go on with the text, no conversation")
    parser.add_argument("--json", action="store_true", help="words and figures as one JSON object")


def run(args: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    plan = Plan(
        prompt.removesuffix("\n"), tuple(args.sharing), args.tokens, args.temperature, args.seed, args.context_fill,
        args.kv_dtype, args.batch, not args.goes_on, args.v_dtype, args.merge,
    )  # fmt: skip
    from attention.llm import generate, loaded
    from attention.timing import device_queue, host

    model = loaded.get()
    alone = len(plan.sharings) == 1 and not args.json
    written, told = Written(), list[dict[str, Any]]()

    def emit(item: dict[str, Any]) -> None:
        if "progress" in item:
            return
        told.append(item)
        before = {name: len(column.text) for name, column in written.columns.items()}
        written.take_in(told)
        if alone:
            for name, column in written.columns.items():
                print(column.text[before.get(name, 0) :], end="", flush=True)

    with device_queue.turn("cpu", waiting=tell_of_waiting):
        generate.run(model, plan, emit, lambda: False)
    if args.json:
        print(json.dumps(_document(plan, written, host.describe().to_json()), indent=1))
        return 0
    if alone:
        print()
    for name, column in written.columns.items():
        if not alone:
            print(f"--- {written.title(name)}\n{column.text}")
        floor = column.floor_s(written.read_bytes_per_s)
        speed = f"{1 / column.step_s:.1f} tokens/s, " if column.step_s else ""
        beside = (
            f"{duration(column.step_s)} a step beside a floor of {duration(floor)}, " if column.step_s and floor else ""
        )
        print(
            f"[{written.title(name)}: {speed}{beside}cache {binary_bytes(column.cache_bytes)} for {column.context:,} "
            f"tokens; {ENDS[column.ended]}]",
            file=sys.stderr,
        )
    return 0


def _document(plan: Plan, written: Written, host: dict[str, Any]) -> dict[str, Any]:
    columns = {
        name: {
            "sharing": written.title(name), "n_kv_heads": c.n_kv_heads, "text": c.text, "tokens": c.n_tokens,
            "ended": c.ended, "context": c.context, "cache_bytes": c.cache_bytes, "prefill_s": c.prefill_s,
            "step_s": c.step_s, "floor_s": c.floor_s(written.read_bytes_per_s), "times_s": c.times_s,
        }
        for name, c in written.columns.items()
    }  # fmt: skip
    return {"plan": plan.to_json(), "model": written.about, "columns": columns, "host": host}
