"""A browser's tab without a browser: Streamlit's AppTest, and the front end's own handling of widgets.

AppTest reads a control's value from the server's state, so it cannot find a control that shows another value. A
:class:`Tab` keeps the values as the front end does: a control shows the value that the visitor set, or the value of the
server's newest message, or its default. A control in a closed popover is not there; its value is kept and not sent.
Fragments run alone, with the state that such a run has. Each tab is its own session.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any
from unittest import mock

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import RerunData, ScriptRunnerEvent
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequests
from streamlit.runtime.state.common import user_key_from_element_id
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest, app_test
from streamlit.testing.v1.local_script_runner import LocalScriptRunner, require_widgets_deltas

from tests.browser_history import opened_from_history
from tests.server import ROOT
from tests.walks.messages import TRIGGERS, VALUES, Part, of_message, says, uploads

TIMEOUT_S = 60
_numbers = itertools.count()


class Log(logging.Handler):
    """Collects what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class _Runner(LocalScriptRunner):
    """Runs the script for one tab, with the tab's session id: the whole page or one fragment."""

    tab: Tab

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._session_id = self.tab.session
        for name, content in self.tab.files.values():
            record = UploadedFileRec(f"{name}-{len(content)}", name, "application/json", content)
            assert isinstance(self._uploaded_file_mgr, MemoryUploadedFileManager)
            self._uploaded_file_mgr.add_file(self._session_id, record)

    def run(self, widget_state: Any = None, query_params: Any = None, timeout: float = 3, page_hash: str = "",
            context_info: Any = None) -> Any:  # fmt: skip
        if self.tab.fragment is None:
            tree = super().run(widget_state, query_params, timeout, page_hash, context_info)
        else:
            alone = RerunData(widget_states=widget_state, query_string=self.tab.query, page_script_hash=page_hash,
                              fragment_id=self.tab.fragment)  # fmt: skip
            # a new runner has a request for a run of the whole page: replace it
            self._requests = ScriptRequests()
            self.request_rerun(alone)
            try:
                self.start()
                require_widgets_deltas(self, timeout)
            finally:
                self.join()
            tree = self.tab.at._tree
        self.tab.take(self)
        return tree


class Tab:
    """One visitor's tab.

    Attributes:
        parts: the page's elements in their order. page: file of the page.
        blocks: path -> (message of a container, id of its fragment).
        live: ids of the fragments that run again by themselves.
        held: id of a control -> the value that the browser holds.
        open: path of the popover that is open; None if none is.
    """

    def __init__(self, page: str = "app.py", query: dict[str, Any] | None = None) -> None:
        self.session = f"walk {next(_numbers)}"
        self.at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=TIMEOUT_S)
        self.elements: dict[tuple[int, ...], Part] = {}
        self.blocks: dict[tuple[int, ...], tuple[Any, str]] = {}
        self.live: set[str] = set()
        self.fragment: str | None = None
        self.files: dict[str, tuple[str, bytes]] = {}
        self.held: dict[str, Any] = {}
        self.open: tuple[int, ...] | None = None
        self.log = Log()
        self.page = page
        self.go(page, query)

    # -- what the visitor does -------------------------------------------------------------------------------------

    def go(self, page: str, query: dict[str, Any] | None = None) -> None:
        """Follow a link to a page; the address has only the keys of `query`."""
        if page != self.page:
            self.held.clear()
        self.page, self.open = page, None
        self.at.switch_page(page)
        self.at.query_params = dict(query or {})
        with opened_from_history():
            self._run(self._states())

    def reload(self, query: dict[str, Any]) -> None:
        """The browser's Back within a page: another query, the same session."""
        self.at.query_params = dict(query)
        with opened_from_history():
            self._run(self._states())

    def put(self, part: Part, value: Any) -> None:
        """Set a control and run the page, or its fragment."""
        if self._popover(part.path) is None:
            self.open = None
        self.held[part.id] = value
        self._run(self._states(), part.fragment or None)

    def click(self, part: Part) -> None:
        if self._popover(part.path) is None:
            self.open = None
        self._run([*self._states(), WidgetState(id=part.id, trigger_value=True)], part.fragment or None)

    def upload(self, part: Part, name: str, content: bytes) -> None:
        self.files[part.id] = (name, content)
        self.put(part, [(f"{name}-{len(content)}", name, len(content))])

    def open_popover(self, path: tuple[int, ...]) -> None:
        """Open a popover: nothing runs, but its controls are there now."""
        self.open = path
        self._mount()

    def run_fragment(self, fragment: str) -> None:
        """Run one fragment, as happens by itself twice a second during a run."""
        self._run(self._states(), fragment)

    # -- what the browser knows ------------------------------------------------------------------------------------

    @property
    def parts(self) -> list[Part]:
        return [self.elements[path] for path in sorted(self.elements)]

    @property
    def main(self) -> list[Part]:
        return [part for part in self.parts if part.path[0] == 0]

    @property
    def query(self) -> str:
        from urllib.parse import urlencode

        return urlencode(self.at.query_params, doseq=True)

    def popovers(self) -> list[tuple[int, ...]]:
        return [p for p, (block, _) in sorted(self.blocks.items()) if block.WhichOneof("type") == "popover"]

    def controls(self) -> list[Part]:
        """The controls that the visitor can use now."""
        usable = [p for p in self.main if p.kind in (*TRIGGERS, *VALUES) and not getattr(p.proto, "disabled", False)]
        return [p for p in usable if self._popover(p.path) in (None, self.open)]

    def shown(self, part: Part) -> Any:
        """The value that a control shows, or would show as soon as its popover is open."""
        if part.kind == "file_uploader" or (part.id in self.held and not getattr(part.proto, "set_value", False)):
            return self.held.get(part.id)
        return of_message(part)

    def known(self, part: Part) -> Any:
        """The control's value on the server, in the form that the browser sends."""
        state = self.at._session_state._state
        meta = state._new_widget_state.widget_metadata.get(part.id)
        return None if meta is None else meta.serializer(state[part.id])

    def container(self, part: Part) -> str:
        """Keys of the containers around an element."""
        ids = (self.blocks[part.path[:n]][0].id for n in range(1, len(part.path)) if part.path[:n] in self.blocks)
        return " ".join(filter(None, (user_key_from_element_id(i) or i for i in ids if i)))

    def words(self) -> list[tuple[str, str]]:
        """(name, text) of everything that the main part shows, in order, without status lines and notices."""
        return [
            (part.name, text)
            for part in self.main
            if (text := says(part, self.shown))
            and "_status" not in self.container(part)
            and "notice" not in self.container(part)
        ]

    def text(self) -> str:
        return "\n".join(text for _, text in self.words())

    # -- between them ----------------------------------------------------------------------------------------------

    def take(self, runner: _Runner) -> None:
        """Read a run's messages into the page, as the front end does."""
        starts = [d for e, d in zip(runner.events, runner.event_data, strict=True)
                  if e == ScriptRunnerEvent.SCRIPT_STARTED]  # fmt: skip
        only = starts[-1].get("fragment_ids_this_run") if starts else None
        if not only:
            self.elements.clear()
            self.blocks.clear()
            self.live.clear()
        else:
            self.elements = {path: p for path, p in self.elements.items() if p.fragment not in only}
        for message in runner.forward_msgs():
            kind = message.WhichOneof("type")
            if kind == "auto_rerun":
                self.live.add(message.auto_rerun.fragment_id)
            if kind != "delta":
                continue
            path, delta = tuple(message.metadata.delta_path), message.delta
            if delta.WhichOneof("type") == "add_block":
                self.blocks[path] = (delta.add_block, delta.fragment_id)
                self.elements.pop(path, None)
            elif delta.WhichOneof("type") == "new_element":
                element = delta.new_element
                what = str(element.WhichOneof("type"))
                self.elements[path] = Part(what, getattr(element, what), path, delta.fragment_id)
        if self.open is not None and self.open not in self.popovers():
            self.open = None
        ids = {p.id for p in self.elements.values()}
        self.held = {i: value for i, value in self.held.items() if i in ids}
        self._mount()

    def _mount(self) -> None:
        """Let every control on the page take the value that it shows, and hold it from now on."""
        for part in self.elements.values():
            if part.kind in VALUES and self._popover(part.path) in (None, self.open):
                self.held[part.id] = self.shown(part)

    def _popover(self, path: tuple[int, ...]) -> tuple[int, ...] | None:
        return next((p for n in range(1, len(path)) if (p := path[:n]) in self.blocks
                     and self.blocks[p][0].WhichOneof("type") == "popover"), None)  # fmt: skip

    def _states(self) -> list[WidgetState]:
        registry = self.at._session_state._state._new_widget_state.widget_metadata
        out = []
        for i, value in self.held.items():
            if value is None or i not in registry:
                continue
            state, field = WidgetState(id=i), registry[i].value_type
            if field == "file_uploader_state_value":
                state.file_uploader_state_value.CopyFrom(uploads(value))
            elif field.endswith("array_value"):
                getattr(state, field).data[:] = value
            else:
                setattr(state, field, value)
            out.append(state)
        return out

    def _run(self, states: list[WidgetState], fragment: str | None = None) -> None:
        runner = type("Runner", (_Runner,), {"tab": self})
        self.fragment = fragment
        loggers = [logging.getLogger(name) for name in ("headshare", "attention", "streamlit")]
        loggers += [log for name, log in logging.Logger.manager.loggerDict.items()
                    if name.startswith("streamlit.") and isinstance(log, logging.Logger)]  # fmt: skip
        for log in loggers:
            log.addHandler(self.log)
        try:
            with mock.patch.object(app_test, "LocalScriptRunner", runner):
                self.at._run(WidgetStates(widgets=states), timeout=TIMEOUT_S)
        finally:
            for log in loggers:
                log.removeHandler(self.log)
