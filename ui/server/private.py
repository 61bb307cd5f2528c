"""Addresses of Streamlit that are not for the public, such as its metrics, which show what people do."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from ui.server.answers import refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from attention.settings import Settings

PATHS = ("_stcore/metrics", "_stcore/script-health-check")


class Private:
    """ASGI middleware that answers PATHS only to a request with HEADSHARE_METRICS_TOKEN."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._token = app, settings.metrics_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].strip("/").endswith(PATHS) and not self._may(scope):
            await refuse(scope, send, 403, "These figures are for the operator: HEADSHARE_METRICS_TOKEN opens them.")
            return
        await self.app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return bool(self._token) and hmac.compare_digest(given, b"Bearer " + self._token.encode())
