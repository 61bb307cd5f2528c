"""Log lines that stay lines: what a stranger wrote cannot forge one, nor speak to the terminal that shows it.

A newline in a pasted field would begin a line that looks like the program's own, an escape character would colour or
clear the operator's terminal. Every line that any logger of this process writes has its control characters escaped;
the lines of a traceback are told apart by two spaces.
"""

from __future__ import annotations

import logging

from attention.foreign_text import escaped


class OneLine(logging.Formatter):
    """A formatter around another: the message on one line, a traceback on lines of its own, set in.

    A line of a traceback that quotes a stranger keeps the two spaces, so it does not pass for a record.
    """

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = escaped(_message(record)), ()
        plain.exc_info = plain.exc_text = plain.stack_info = None
        # some formatters colour a message of their own
        for name in ("color_message",):
            plain.__dict__.pop(name, None)
        lines = [self.inner.format(plain)]
        if record.exc_info:
            lines += self.inner.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += record.stack_info.split("\n")
        return "\n  ".join([lines[0], *(escaped(line) for line in lines[1:])])


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a record whose arguments do not fit is still worth a line
        return f"{record.msg!r} {record.args!r}"


def escape_control_characters() -> None:
    """Put :class:`OneLine` around the formatter of every handler of this process, those made later included."""
    logging.Handler.format = _format_on_one_line  # type: ignore[method-assign]  # logging has no hook for all handlers


def _format_on_one_line(self: logging.Handler, record: logging.LogRecord) -> str:
    formatter = self.formatter
    return (formatter if isinstance(formatter, OneLine) else OneLine(formatter)).format(record)
