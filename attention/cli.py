"""``python -m attention COMMAND``: everything the pages do, scriptable.

Each command is a module of ``attention.commands``; only the one called is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

import attention.commands


def command_names() -> tuple[str, ...]:
    """Names as typed: module ``bench_tp`` is the command ``bench-tp``."""
    return tuple(m.name.replace("_", "-") for m in pkgutil.iter_modules(attention.commands.__path__))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the commands do for everything else."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help shows what is accepted)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    names = command_names()
    parser = _Parser(prog="python -m attention", description="Headshare's command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = argv[0] if argv and argv[0] in names else None
    for name in names if wanted is None else (wanted,):
        module = importlib.import_module(f"attention.commands.{name.replace('-', '_')}")
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(sub)
        sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except ValueError as error:
        print(f"python -m attention {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe has gone (`| head`): end quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
