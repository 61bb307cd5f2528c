"""The client of a request: its address, from the connection or from the header that the proxy in front writes.

All limits count by this client. All IPv6 addresses of one /64 network count as one client, because a subscriber gets a
whole /64.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from attention.settings import Settings

HEADER = b"headshare-client-" + secrets.token_hex(8).encode()
"""This header is added to the handshake of a tab, for pages (``ui.server.client``). Its name is random in each process,
so no client can send it."""
KEY = "headshare.client"
"""Key of the client in an ASGI scope, for the rest of the gate."""
FORWARDING = (b"x-forwarded-for", b"x-real-ip", b"forwarded")

log = logging.getLogger("headshare")


def normal(text: str) -> str | None:
    """An address in the form that is counted, without port, brackets and zone; None if `text` is no address."""
    text = text.strip().strip('"').partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def client_of(scope: Scope, header: str, proxies: int = 1) -> str:
    """The client of a request, in the form that is counted.

    If the header is missing, has fewer than `proxies` entries or holds no address, the connection's address counts.

    Args:
        scope: the request's ASGI scope. ``ui.server.connections`` puts the connection's address into its state.
            "client" is not safe: uvicorn may have taken it from a header that the client wrote.
        header: name of the header that the proxy writes; "" for none.
        proxies: number of proxies that add to the header. Each adds the address that it was asked from at the end.
    """
    host = scope.get("state", {}).get("peer") or (scope.get("client") or ("unknown",))[0]
    if header:
        name = header.lower().encode()
        values = b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1").split(",")
        if len(values) >= proxies and (address := normal(values[-proxies])) is not None:
            return address
    return normal(host) or host[:60]


class Clients:
    """ASGI middleware that puts the client into the scope, and for pages into a header of the handshake."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._header, self._proxies = app, settings.client_header, settings.proxies
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        client = client_of(scope, self._header, self._proxies)
        headers = list(scope["headers"])
        if not self._header and not self._warned and any(name in FORWARDING for name, _ in headers):
            self._warned = True
            log.warning(
                "a proxy is in front and HEADSHARE_CLIENT_HEADER does not name its header: all visitors count as one"
            )
        if scope["type"] == "websocket":
            headers.append((HEADER, client.encode()))
        await self.app({**scope, "headers": headers, KEY: client}, receive, send)
