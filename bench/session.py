"""A browser tab without the browser: one WebSocket session with a Streamlit server, speaking its protocol.

``bench/load.py`` uses it to load the server with many sessions at once and to watch its memory over thousands of
reruns. It does what the front end does: it opens the stream, asks for a run, keeps the elements that arrive, and sends
back the state of all widgets when one moves.
"""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Any

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

APOLOGY = "Sorry, this part of the page failed"
"""The first words of the message by which ``ui.frame.guard`` tells a visitor that a part of a page raised."""

MOVABLE = ("slider", "selectbox", "button_group", "radio")


class ScriptError(RuntimeError):
    """The run ended with an exception or a compile error."""


class Session:
    """One session; use as an async context manager.

    Args:
        address: host and port, such as "127.0.0.1:8501".
        path: the page, such as "/kv_cache". query: the part of the address after "?".
    """

    def __init__(self, address: str, path: str = "/", query: str = "") -> None:
        self.address, self.path, self.query = address, path.strip("/"), query
        self.widgets: dict[str, tuple[str, Any]] = {}
        self.values: dict[str, WidgetState] = {}
        self.exceptions: list[str] = []
        self.bytes_received = 0
        self.id = ""
        self._page_hash = ""
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Session:
        self._socket = await connect(
            f"ws://{self.address}/_stcore/stream",
            origin=websockets.Origin(f"http://{self.address}"),
            max_size=64 * 2**20,
            open_timeout=30,
            compression=None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket:
            await self._socket.close()

    async def rerun(self, timeout_s: float = 60) -> float:
        """Run the script with the present widget values; return the seconds until it finished.

        Raises:
            ScriptError: an exception was drawn, or the script did not compile.
            TimeoutError: the run took longer than `timeout_s`.
        """
        assert self._socket is not None, "use the session as an async context manager"
        message = BackMsg()
        message.rerun_script.query_string = self.query
        if self._page_hash:
            message.rerun_script.page_script_hash = self._page_hash
        else:
            message.rerun_script.page_name = self.path
        message.rerun_script.widget_states.widgets.extend(self.values.values())
        started = time.perf_counter()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._until_finished(), timeout_s)
        return time.perf_counter() - started

    async def _until_finished(self) -> None:
        assert self._socket is not None
        self.exceptions.clear()
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            self.bytes_received += len(data)
            message = ForwardMsg()
            message.ParseFromString(data)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.id = message.new_session.initialize.session_id
            elif kind == "navigation":
                # new_session always names the main script, also when another page was asked for
                self._page_hash = message.navigation.page_script_hash
            elif kind == "delta":
                self._keep(message)
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    raise ScriptError("the script did not compile")
                if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    if self.exceptions:
                        raise ScriptError(self.exceptions[0])
                    return

    def _keep(self, message: ForwardMsg) -> None:
        if message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        kind = element.WhichOneof("type") or ""
        if kind == "exception":
            self.exceptions.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "alert" and element.alert.body.startswith(APOLOGY):
            self.exceptions.append(f"/{self.path}?{self.query}: {element.alert.body}")
        elif kind in MOVABLE:
            widget = getattr(element, kind)
            self.widgets[widget.id] = (kind, widget)

    def move(self, rng: random.Random, *, only: tuple[str, ...] = ("slider",)) -> bool:
        """Give one of the page's sliders (or of the kinds in `only`) a random value. False if there is none to move."""
        movable = [(i, k, w) for i, (k, w) in self.widgets.items() if k in only and not getattr(w, "disabled", False)]
        if not movable:
            return False
        identity, kind, widget = rng.choice(movable)
        state = WidgetState(id=identity)
        if kind == "slider" and widget.options:
            state.string_array_value.data.append(rng.choice(list(widget.options)))
        elif kind == "slider":
            low, high, step = int(widget.min), int(widget.max), max(int(widget.step), 1)
            state.double_array_value.data.append(rng.randrange(low, high + 1, step) if high > low else low)
        elif kind == "selectbox":
            state.string_value = rng.choice(list(widget.options))
        else:
            return False
        self.values[identity] = state
        return True
