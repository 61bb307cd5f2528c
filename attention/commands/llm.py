"""``python -m attention llm record``: make the record of the published model, which pages show before a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attention.commands.arguments import tell_of_waiting, whole_number
from attention.llm.plan import FIRST_TEXT

HELP = "record what the pages show of the published model: held-out losses, roles of heads, a run of three sharings"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["record"])
    parser.add_argument(
        "--texts", type=whole_number, default=32, help="pieces of 256 tokens for the losses (default 32)"
    )
    parser.add_argument("--looked-at", type=whole_number, default=16, help="of them for the heads (default 16)")
    parser.add_argument("--formats", type=whole_number, default=8, help="of them for the cache's formats (default 8)")
    parser.add_argument("--text", default=FIRST_TEXT, help="a text to show heads' attention over")
    parser.add_argument("--tokens", type=whole_number, default=64, help="tokens that the recorded run writes")
    parser.add_argument("--out", type=Path, help="file to write (default: the one that ships with the program)")


def run(args: argparse.Namespace) -> int:
    from attention.llm import loaded, record, recorded
    from attention.llm.plan import Plan
    from attention.spec import check_size
    from attention.timing import device_queue

    check_size("texts", args.texts, 1, 1000)
    check_size("looked-at", args.looked_at, 1, args.texts)
    check_size("formats", args.formats, 1, args.texts)
    plan = Plan(record.PROMPT, tokens=args.tokens)
    model = loaded.get()
    with device_queue.turn("cpu", waiting=tell_of_waiting):
        made = record.make(
            model, plan, args.texts, args.looked_at, args.formats,
            lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        looked = record.look(model, args.text)
    path = args.out or recorded.FILE
    record.write(made, path)
    record.write(looked, recorded.heads_file(path))
    print(path)
    return 0
