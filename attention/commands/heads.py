"""``python -m attention heads``: what the published model's heads look at in a text."""

from __future__ import annotations

import argparse
import json
import sys
from statistics import mean
from typing import Any

HELP = "roles of the published model's heads in a text, and how alike heads are that share a K/V head"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="English or code of 3 to 256 tokens; - reads standard input")
    parser.add_argument("--json", action="store_true", help="every head's scores as one JSON object")


def run(args: argparse.Namespace) -> int:
    from attention.llm import heads, loaded
    from attention.llm.plan import check_prompt

    text = check_prompt(sys.stdin.read() if args.text == "-" else args.text)
    found = heads.of_text(loaded.get(), text)
    if args.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    print("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    out = [f"{found['model']}: {len(found['tokens'])} tokens, {found['n_layers']} layers of {found['n_heads']} heads"]
    for role in found["roles"].values():
        score, layer, head = max(
            (score, layer, head) for layer, row in enumerate(role["score"]) for head, score in enumerate(row)
        )
        if not role["n_queries"]:
            out.append(f"{role['label']}: no token of this text takes part")
            continue
        chance = max(role["uniform"], role["by_distance"][layer][head])
        out.append(
            f"{role['label']}: layer {layer + 1}, head {head} most, {100 * score:.0f} % beside {100 * chance:.0f} % by "
            f"chance, over {role['n_queries']} tokens"
        )
    for name, words in (("likeness", ""), ("likeness_without_first", ", what goes to the first token left out")):
        within, between = (found[name][part] for part in ("within", "between"))
        if None in (within[0], between[0]):
            continue
        more = sum(w > b for w, b in zip(within, between, strict=True))
        out.append(
            f"heads that share a K/V head are {mean(within):.2f} alike, others {mean(between):.2f}; more in {more} of "
            f"{len(within)} layers{words}"
        )
    return out
