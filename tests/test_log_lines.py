"""A log line is one line, whatever it quotes."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attention.foreign_text import escaped, quoted
from attention.log_lines import OneLine

HOSTILE = "x\n2026-01-01 root: all is well\r\x1b[2J\x1b]0;title\x07\x9b31m\u2028\u202e\x00"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(OneLine(logging.Formatter("%(levelname)s %(message)s")))
    own = logging.getLogger("tests.log_lines")
    own.propagate, own.handlers = False, [handler]
    yield own, written
    own.handlers = []


def sound(text: str) -> bool:
    return not any(c in text for c in "\r\x1b\x07\x9b\u2028\u202e\x00")


def test_a_field_forges_no_line(logger: tuple[logging.Logger, io.StringIO]) -> None:
    own, written = logger
    own.warning("the field %s is odd", HOSTILE)
    assert written.getvalue().count("\n") == 1
    assert written.getvalue().startswith(r"WARNING the field x\n2026-01-01 root")
    assert sound(written.getvalue())


def test_an_exceptions_text_stays_set_in(logger: tuple[logging.Logger, io.StringIO]) -> None:
    own, written = logger
    try:
        raise KeyError(HOSTILE) from ValueError(HOSTILE)
    except KeyError:
        own.exception("failed")
    first, *rest = written.getvalue().rstrip("\n").split("\n")
    assert first == "ERROR failed"
    assert rest
    assert all(line.startswith("  ") for line in rest)
    assert sound(written.getvalue())


def test_records_that_do_not_fit_and_long_ones() -> None:
    odd = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%d of %d", ("one\n",), None)
    assert OneLine().format(odd) == r"'%d of %d' ('one\n',)"
    long = logging.LogRecord("x", logging.WARNING, "x.py", 1, "x" * 10**6, (), None)
    assert len(OneLine().format(long)) < 21_000


def test_every_handler_of_a_process_is_covered() -> None:
    """Handlers made before and after, with and without a formatter, including uvicorn's and Streamlit's."""
    program = f"""
import logging, logging.config, sys
from attention.log_lines import escape_control_characters
before = logging.StreamHandler()
logging.getLogger("a").addHandler(before)
escape_control_characters(); escape_control_characters()
from uvicorn.config import LOGGING_CONFIG
logging.config.dictConfig({{**LOGGING_CONFIG, "disable_existing_loggers": False}})
from streamlit.logger import get_logger
logging.getLogger("b").addHandler(logging.StreamHandler())
for name in ("a", "b", "uvicorn.error", "root"):
    logging.getLogger(name).warning("odd: %s", {HOSTILE!r})
get_logger("streamlit.x").warning("odd: %s", {HOSTILE!r})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=True)
    text = (done.stderr + done.stdout).decode()
    assert text.count("odd: ") == text.count("\n") >= 5
    assert sound(text)


def test_escaped_text_can_be_read() -> None:
    assert escaped("tab\tstays, ümlaut stays, \x7f goes") == "tab\tstays, ümlaut stays, \\x7f goes"
    assert quoted("x" * 1000, 100) == "x" * 75 + " … " + "x" * 25
