"""``python -m attention accuracy``: compare the computed cache of every known model with that of its own code."""

from __future__ import annotations

import argparse
import sys

from attention.oracle import accuracy, parameter_record
from attention.units import counted

HELP = "computed against allocated for every catalogue model and test configuration; --write updates the page's data"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write", action="store_true", help="run the checks and write attention/data/accuracy.json and parameters.json"
    )
    parser.add_argument("--fresh", action="store_true", help="with --write: repeat checks whose result is in the file")


def run(args: argparse.Namespace) -> int:
    """Exit code 0: every difference is explained and published figures agree; 1: not so; 2: bad input."""
    if args.write:
        checks = tuple(accuracy.run(lambda c: print(_line(c), file=sys.stderr, flush=True), fresh=args.fresh))
        results = accuracy.load()
        print(f"parameters of {parameter_record.write()} models recorded", file=sys.stderr)
    else:
        try:
            results = accuracy.load()
        except FileNotFoundError:
            raise ValueError("there are no results yet: call python -m attention accuracy --write") from None
        checks = results.checks
    asked = [c for c in checks if c.reason is None]
    exact = sum(c.difference_bytes == 0 for c in asked)
    wrong = [c for c in asked if c.unexplained_bytes]
    print(f"{len(asked)} models asked for their own cache: {exact} equal to the byte, ", end="")
    print(f"{len(asked) - exact - len(wrong)} differ as explained, {len(wrong)} unexplained")
    print(f"{len(checks) - len(asked)} could not be asked")
    for check in wrong:
        print(_line(check))
    off = [g for g in results.golden if not g.agrees]
    print(f"{len(results.golden) - len(off)} of {len(results.golden)} published figures agree")
    return 1 if wrong or off else 0


def _line(check: accuracy.Check) -> str:
    if check.reason is not None:
        return f"{check.model}: not asked: {check.reason}"
    verdict = "equal" if not check.difference_bytes else f"{check.difference_bytes:+,} B"
    if check.unexplained_bytes:
        verdict += f", {check.unexplained_bytes:,} B UNEXPLAINED"
    return f"{check.model} ({check.source}, {counted(check.context, 'token')}): {verdict}"
