"""Limits on what a client may use of the server: tabs, messages, uploads. A refusal is a sentence for the visitor.

`middleware(settings)` gives all of the middleware, from the outside in; ``serve.py`` puts it around the app. Nothing
here knows pages. docs/hosting.md has the table of all limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from ui.server.book import Book
from ui.server.clients import Clients
from ui.server.private import Private
from ui.server.tabs import Tabs
from ui.server.uploads import Uploads

if TYPE_CHECKING:
    from attention.settings import Settings


def middleware(settings: Settings) -> list[Middleware]:
    """The middleware that enforces the limits of `settings`, in the order in which a request meets it."""
    book = Book()
    return [
        Middleware(Clients, settings=settings),
        Middleware(Private, settings=settings),
        Middleware(Tabs, settings=settings, book=book),
        Middleware(Uploads, settings=settings, book=book),
    ]
