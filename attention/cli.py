"""``python -m attention COMMAND``: the work of the pages, for scripts.

Each command is a module of ``attention.commands``. Only the module of the called command is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import attention.commands
from attention.foreign_text import quoted

MOST_CHARACTERS = 2000
"""Most characters of one line of a message."""


def command_names() -> tuple[str, ...]:
    """Names as typed: module ``bench_tp`` is the command ``bench-tp``."""
    modules = (m.name for m in pkgutil.iter_modules(attention.commands.__path__))
    return tuple(name.replace("_", "-") for name in modules if name != "arguments")


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, as the commands report other errors."""

    def print_help(self, file: Any = None) -> None:
        # argparse's own method ignores an error of writing
        file = file or sys.stdout
        file.write(self.format_help())
        file.flush()

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {_shown(message)} (--help shows what is accepted)\n")


def _shown(message: str) -> str:
    """`message` with bounded length and without control characters: it may quote text that was typed or read."""
    return "\n".join(quoted(line, MOST_CHARACTERS) for line in message.split("\n")[:20])


def _open_streams() -> None:
    """Replace characters that the terminal cannot show: an arrow must not make a finished conversion fail.

    Raises:
        OSError: standard output is closed, so no result can be shown.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")


def _discard_output() -> None:
    """Send the buffered output to the null device, so that Python does not try to write it again when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(_shown(text), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; None takes those of this process.

    Returns:
        The exit code: 0 done, 1 an error of the operating system, 2 bad input, 130 interrupted.
    """
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
    name = "python -m attention"
    try:
        _open_streams()
        args = parser.parse_args(argv)
        name += f" {args.command}"
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except ValueError as error:
        _say(f"{name}: {error}")
        return 2
    except BrokenPipeError:
        # the reader of the pipe has ended (`| head`): end without a message
        _discard_output()
        return 0
    except OSError as error:
        # a full disk, a lost mount, an unreadable file: the system's message says more than a traceback
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{name}: {where}{error.strerror or error}")
        _discard_output()
        return 1
    except KeyboardInterrupt:
        return 130
