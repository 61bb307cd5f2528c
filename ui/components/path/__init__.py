"""The path through the pages: the page before and after each, and the view at which the next page opens."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from ui.components.component import component
from ui.components.navigation import NAVIGATION, ROOT, address
from ui.params import VERSION


class Stop(NamedTuple):
    """One page of the path.

    Attributes:
        page: its key in ``NAVIGATION``.
        says: what the page shows, in one sentence.
        query: the address keys of the view at which the path opens the page; all other keys have their defaults.
    """

    page: str
    says: str
    query: tuple[tuple[str, str], ...] = ()


_GEMMA = ("model", "google/gemma-3-27b-pt")
_LONG = ("context", "131072")

PATH: tuple[Stop, ...] = (
    Stop("explore", "Which heads share, and what that makes of the cache."),
    Stop("with_cache", "What a model would compute again for every token, and what it keeps instead."),
    Stop(
        "why",
        "From one user to 32: the cache overtakes the weights.",
        (("context", "32768"), ("batch", "32"), ("why_acc", "b200")),
    ),
    Stop("heads", "One token through one layer, in four steps.", (("h_step", "1"),)),
    Stop("spectrum", "One slider from a K/V head for each query head to one for all.", (_LONG,)),
    Stop("other_ways", "Windows, latent vectors and shared layers: how else a cache gets small.", (_GEMMA, _LONG)),
    Stop("code", "The few lines in which the three classes differ.", (("code_step", "MQA → GQA"),)),
    Stop("real_model", "The same on a real model, as it writes."),
    Stop("heads_learn", "What the heads of small trained models look at."),
    Stop("published", "What sharing costs and saves in the papers' own tables."),
    Stop("lab", "Merge the K/V heads of a trained model and train it back."),
    Stop("kv_cache", "A model of 27 billion parameters at 128k tokens, byte for byte.", (_GEMMA, _LONG)),
    Stop("compare", "Five models side by side, at the context that you choose.", (("context", "32768"),)),
    Stop(
        "fit",
        "A load that does not fit, and the ways out.",
        (
            ("model", "meta-llama/Llama-3.1-70B"),
            ("context", "16384"),
            ("batch", "8"),
            ("f_acc", "l40s"),
            ("f_count", "4"),
        ),
    ),
    Stop("engines", "What engines say of themselves in their logs."),
    Stop("timings", "The same attention, timed on this machine."),
    Stop("decode_step", "One step of a whole model.", (("context", "32768"),)),
    Stop("roofline", "Where a step stands between memory and arithmetic.", (("batch", "32"),)),
    Stop("summary", "What you guessed on the way, and the sentences to keep."),
)
"""The pages of the path in order. A page whose file does not exist is left out."""

ASIDE = ("accuracy", "about")
"""Pages to look things up, which are not on the path."""


@cache
def stops() -> tuple[tuple[Stop, str, str], ...]:
    """(stop, label, address) of every page of the path that exists, in order. Addresses are relative, because a proxy
    may serve the app under its own path."""
    files = {key: (file, label) for _, entries in NAVIGATION for key, file, label in entries}
    found = []
    for stop in PATH:
        if stop.page in files and (ROOT / files[stop.page][0]).exists():
            file, label = files[stop.page]
            query = urlencode([("v", VERSION), *stop.query])
            found.append((stop, label, f"{address(file)}?{query}"))
    return tuple(found)


def neighbours(page: str) -> tuple[int | None, int | None]:
    """Indices in ``stops()`` of the pages before and after `page`; None where there is none."""
    at = next((i for i, (stop, _, _) in enumerate(stops()) if stop.page == page), None)
    if at is None:
        return None, None
    return at - 1 if at else None, at + 1 if at + 1 < len(stops()) else None


def _link(place: int | None, which: str) -> dict[str, str] | None:
    if place is None:
        return None
    stop, label, to = stops()[place]
    return {"which": which, "to": to, "page": stop.page, "label": label, "says": stop.says}


_component = component(Path(__file__).parent, html='<nav class="hs-path" aria-label="Path"></nav>', apart=False)


def path(page: str) -> None:
    """Draw the links Back and Next of `page`; nothing for a page that is not on the path."""
    back, on = neighbours(page)
    if back is None and on is None:
        return
    _component(key="path", data={"links": [_link(back, "Back"), _link(on, "Next")]})
