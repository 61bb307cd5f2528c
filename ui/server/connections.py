"""Limits on connections, below HTTP: how many an address may have, and how long the header of a request may take.

uvicorn has no setting for either, so two methods of its HTTP/1.1 protocol are wrapped here. Nothing else of it changes.
If a version of uvicorn does not have these methods, the server works without the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from attention.settings import Settings

log = logging.getLogger("headshare")

SPARE_DESCRIPTORS = 256
"""Descriptors kept for files, the worker's pipes and databases; the others are for connections and tabs."""
SWEEP_S = 5.0
STALLED_MS = 60_000
"""A connection is closed when its client has not accepted any sent data for this long."""
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"retry-after: 60\r\n\r\nToo many connections are open, from your address or in all: try again in a minute.\n"
)


class Connections:
    """Open connections by address; those that have ended are removed."""

    def __init__(self, settings: Settings, most: int) -> None:
        # behind a proxy every connection is the proxy's
        self._each = most if settings.client_header else settings.client_connections
        self._most = most
        self._open: dict[str, set[Any]] = defaultdict(set)

    def take(self, transport: Any, address: str) -> bool:
        """Count a new connection; False if its address, or the server, has too many already."""
        self._sweep(address)
        if len(self._open[address]) < self._each and self._total() >= self._most:
            for other in list(self._open):
                self._sweep(other)
        if len(self._open[address]) >= self._each or self._total() >= self._most:
            return False
        self._open[address].add(transport)
        return True

    def _total(self) -> int:
        return sum(map(len, self._open.values()))

    def _sweep(self, address: str) -> None:
        self._open[address] = {transport for transport in self._open[address] if not transport.is_closing()}

    async def sweep_for_ever(self) -> None:
        """Remove connections that have ended, every SWEEP_S seconds."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for address in list(self._open):
                self._sweep(address)
                if not self._open[address]:
                    del self._open[address]


def raise_descriptor_limit() -> int:
    """Raise this process's limit on descriptors as far as the system allows, at most to 65,536; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft


def watch(settings: Settings) -> Connections:
    """From now on count every connection, note its address for ``ui.server.clients``, and close it if the header of a
    request takes longer than `settings.header_seconds`."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    most = max(64, raise_descriptor_limit() - SPARE_DESCRIPTORS)
    connections = Connections(settings, most)
    made: Any = AutoHTTPProtocol.connection_made
    received: Any = AutoHTTPProtocol.data_received
    if not {"connection_made", "data_received"} <= vars(AutoHTTPProtocol).keys():
        log.warning("this version of uvicorn is not known: connections are not limited")
        return connections

    def connection_made(self: Any, transport: Any) -> None:
        made(self, transport)
        address = str((transport.get_extra_info("peername") or ("unknown",))[0])
        self.app_state = {**self.app_state, "peer": address}
        self._header_timer = None
        if not connections.take(transport, address):
            transport.write(BUSY)
            transport.close()
            return
        _await_header(self)

    def data_received(self: Any, data: bytes) -> None:
        received(self, data)
        timer = getattr(self, "_header_timer", None)
        if not _between_requests(self):
            if timer is not None:
                timer.cancel()
                self._header_timer = None
        elif timer is None:
            _await_header(self)

    def _await_header(protocol: Any) -> None:
        protocol._header_timer = protocol.loop.call_later(settings.header_seconds, _give_up, protocol)

    AutoHTTPProtocol.connection_made = connection_made  # type: ignore[method-assign]  # uvicorn has no hook for it
    AutoHTTPProtocol.data_received = data_received  # type: ignore[method-assign]  # the same
    return connections


def _between_requests(protocol: Any) -> bool:
    cycle = getattr(protocol, "cycle", None)
    return cycle is None or bool(cycle.response_complete)


def _give_up(protocol: Any) -> None:
    """Close a connection that still waits for a header, but not one that became a WebSocket with its own protocol."""
    protocol._header_timer = None
    transport = protocol.transport
    if transport is None or transport.is_closing() or transport.get_protocol() is not protocol:
        return
    if _between_requests(protocol):
        transport.close()


def prepare_listening() -> None:
    """Set two options on the listening sockets; every accepted connection inherits them.

    TCP_NODELAY turns off Nagle's algorithm, which makes an answer in several parts wait 40 ms for a delayed
    acknowledgement. asyncio sets it only for sockets whose protocol is named, and Streamlit's socket does not name it.
    TCP_USER_TIMEOUT closes a connection whose client has accepted no data for STALLED_MS.
    """
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            with socket.fromfd(connection.fd, connection.family, socket.SOCK_STREAM) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
