"""Who asks: the client's address, from the connection, or from the header that the proxy in front writes.

Everything that is shared among clients is counted by what stands here. An address of IPv6 counts with its neighbours
of the same /64, which one subscriber has whole.
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
"""Added to the handshake of a tab, for pages (``ui.server.client``). No client knows its name, which is this process's
own."""
KEY = "headshare.client"
"""The client in an ASGI scope, for the rest of the gate."""
FORWARDING = (b"x-forwarded-for", b"x-real-ip", b"forwarded")

log = logging.getLogger("headshare")


def normal(text: str) -> str | None:
    """An address as it is counted, None if it is none. A port, brackets and a zone are left out."""
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
    """The client behind a request, as it is counted.

    Args:
        scope: the request's. ``ui.server.connections`` notes the connection's address in its state: what stands in
            "client" uvicorn may have taken from a header that the client wrote.
        header: name of the header that the proxy writes; "" for none.
        proxies: how many proxies add to it; each adds the address that it was asked from at the end.

    A request without the header, or with one that is too short or no address, counts for the connection's address.
    """
    host = scope.get("state", {}).get("peer") or (scope.get("client") or ("unknown",))[0]
    if header:
        name = header.lower().encode()
        values = b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1").split(",")
        if len(values) >= proxies and (address := normal(values[-proxies])) is not None:
            return address
    return normal(host) or host[:60]


class Clients:
    """ASGI middleware that notes the client in the scope, and for pages in a header of the handshake."""

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
