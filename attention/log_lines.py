"""Log lines in which a visitor's text can neither forge a line nor control the terminal.

A newline in a pasted field would begin a line that looks like the program's own. An escape character would colour or
clear the operator's terminal. So control characters are escaped in every line that any logger of this process writes.
Lines of a traceback begin with two spaces.
"""

from __future__ import annotations

import logging

from attention.foreign_text import escaped


class OneLine(logging.Formatter):
    """Wraps another formatter: the message stands on one line, and each line of a traceback on an indented line.

    The indent of two spaces shows that a line belongs to a traceback, even where it quotes a visitor's text.
    """

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = escaped(_message(record)), ()
        plain.exc_info = plain.exc_text = plain.stack_info = None
        # some formatters show this second, coloured message, which is not escaped
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
    except Exception:  # the arguments do not fit the message: log both as they are
        return f"{record.msg!r} {record.args!r}"


def escape_control_characters() -> None:
    """Wrap the formatter of every handler of this process in :class:`OneLine`, also of handlers made later."""
    logging.Handler.format = _format_on_one_line  # type: ignore[method-assign]  # logging has no hook for all handlers


def _format_on_one_line(self: logging.Handler, record: logging.LogRecord) -> str:
    formatter = self.formatter
    return (formatter if isinstance(formatter, OneLine) else OneLine(formatter)).format(record)
