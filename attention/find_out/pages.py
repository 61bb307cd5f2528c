"""The guess and the problems of each page."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from attention.find_out import cache as caches
from attention.find_out import models, serving
from attention.find_out.parts import FindOut

PAGES: dict[str, Callable[[], FindOut]] = {
    "with_cache": caches.with_cache,
    "why": caches.why,
    "heads": caches.heads,
    "spectrum": caches.spectrum,
    "other_ways": caches.other_ways,
    "code": models.code,
    "real_model": models.real_model,
    "heads_learn": models.heads_learn,
    "published": models.published,
    "kv_cache": serving.kv_cache,
    "compare": serving.compare,
    "fit": serving.fit,
    "engines": serving.engines,
    "accuracy": serving.accuracy,
}
"""Page -> what it asks, in the order of the pages' path."""


@cache
def of_page(page: str) -> FindOut:
    """What a page asks. It is made once.

    Raises:
        KeyError: the page asks nothing.
    """
    return PAGES[page]()
