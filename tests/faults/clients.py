"""Clients with different addresses: every address of 127/8 is this machine, so it can act as many clients."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from typing import Any

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets import Origin
from websockets.asyncio.client import connect

from bench.session import Session

HONEST, STRANGER = "127.0.0.1", "127.0.0.66"


class Visitor(Session):
    """A tab opened from one client address; it can press buttons and collects the page's messages in `said`.

    Args:
        source: the client's address, one of 127/8.
        headers: further headers of the handshake, such as those of a proxy.
    """

    def __init__(
        self,
        address: str,
        path: str = "/",
        query: str = "",
        *,
        source: str = HONEST,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(address, path, query)
        self.source, self.headers = source, headers or {}
        self.said: list[str] = []

    async def __aenter__(self) -> Visitor:
        self._socket = await connect(
            f"ws://{self.address}/_stcore/stream",
            origin=Origin(f"http://{self.address}"),
            max_size=64 * 2**20,
            open_timeout=60,
            compression=None,
            local_addr=(self.source, 0),
            additional_headers=self.headers,
        )
        return self

    def _keep(self, message: ForwardMsg) -> None:
        super()._keep(message)
        if message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind in ("button", "text_area"):
            self.widgets[getattr(element, kind).id] = (kind, getattr(element, kind))
        elif kind == "alert":
            self.said.append(element.alert.body)
        elif kind in ("markdown", "progress"):
            self.said.append(element.markdown.body if kind == "markdown" else element.progress.text)

    def widget(self, key: str) -> str | None:
        """Id of the widget with that key; None if the page did not draw it."""
        return next((i for i in self.widgets if i.endswith(f"-{key}")), None)

    async def press(self, key: str) -> float:
        """Press a button; returns the seconds until the page was drawn again."""
        identity = self.widget(key)
        assert identity is not None, f"no button {key} among {sorted(self.widgets)}"
        self.values[identity] = WidgetState(id=identity, trigger_value=True)
        try:
            return await self.rerun()
        finally:
            del self.values[identity]

    async def listen(self, seconds: float) -> None:
        """Read for this many seconds what the server sends without being asked."""
        assert self._socket is not None
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                data = await asyncio.wait_for(self._socket.recv(), left)
            except TimeoutError:
                return
            message = ForwardMsg()
            message.ParseFromString(data)
            if message.WhichOneof("type") == "delta":
                self._keep(message)


class Uploads:
    """One connection from `source` that uploads files to sessions."""

    def __init__(self, address: str, source: str = HONEST) -> None:
        host, port = address.split(":")
        self._connect = lambda: http.client.HTTPConnection(host, int(port), timeout=30, source_address=(source, 0))
        self._connection = self._connect()
        cookie = self._ask("GET", "/_stcore/health")[2]["set-cookie"].partition(";")[0]
        self._headers = {
            "Cookie": cookie,
            "X-Xsrftoken": cookie.partition("=")[2],
            "Content-Type": "multipart/form-data; boundary=b",
        }

    def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str, Any]:
        try:
            self._connection.request(method, path, body, **more)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = self._connect()
            return 0, "", {}
        if answer.will_close:
            self._connection.close()
        return answer.status, text.decode(errors="replace"), answer.headers

    def put(self, session: str, name: str, size: int, *, chunked: bool = False) -> tuple[int, str]:
        """(status, text of the answer) of one upload of `size` bytes. Status 0: the server closed the connection."""
        head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.json"\r\n\r\n'
        body: Any = head + b"x" * size + b"\r\n--b--\r\n"
        if chunked:
            body = iter((body,))
        headers = self._headers
        status, text, _ = self._ask("PUT", f"/_stcore/upload_file/{session}/{name}", body, headers=headers)
        return status, text

    def delete(self, session: str, name: str) -> int:
        return self._ask("DELETE", f"/_stcore/upload_file/{session}/{name}", headers=self._headers)[0]

    def close(self) -> None:
        self._connection.close()


def dangling(address: str, data: bytes, source: str = HONEST) -> socket.socket:
    """A connection that has sent `data` and sends nothing more."""
    host, port = address.split(":")
    one = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
    one.sendall(data)
    return one


def closed_by_server(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        while one.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
