"""Back, Forward and links within the app, for runs of Streamlit's AppTest. A browser says in its request that the
address was opened from its history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from streamlit.runtime.scriptrunner import RerunData
from streamlit.testing.v1.local_script_runner import LocalScriptRunner


@contextmanager
def opened_from_history() -> Iterator[None]:
    """Inside the ``with`` block, every run is one for an address that Back, Forward or a link opened."""
    ask = LocalScriptRunner.request_rerun

    def asked_from_history(runner: LocalScriptRunner, data: RerunData) -> bool:
        return ask(runner, replace(data, is_history_navigation=True))

    with mock.patch.object(LocalScriptRunner, "request_rerun", asked_from_history):
        yield
