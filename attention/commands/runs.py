"""``python -m attention runs``: copy kept runs as files from one machine to another."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from attention.files import ordinary

HELP = "Write a kept run as JSON, or keep a run that another machine wrote."


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="show|add")
    show = what.add_parser("show", help="write a kept run as JSON")
    show.add_argument("token", help="as in the link, after run=")
    show.add_argument("--recorded", action="store_true", help="mark it as one that ships with the program")
    add = what.add_parser("add", help="keep the run in a file and print its link")
    add.add_argument("file", type=Path)


def run(args: argparse.Namespace) -> int:
    from attention.kept.store import link, store
    from attention.timing import runs

    if args.what == "show":
        kept = store().load(args.token)
        print(replace(kept, source="recorded").dumps() if args.recorded else kept.dumps())
        return 0
    try:
        with ordinary(args.file).open("rb") as file:
            text = file.read(runs.MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{args.file} can't be read: {error.strerror}") from None
    print(link(store().save(runs.uploaded(text))), file=sys.stdout)
    return 0
