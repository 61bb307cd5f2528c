"""The list of pages in the sidebar. All links are one element, because every run draws it again."""

from __future__ import annotations

import html
from pathlib import Path

from ui.components.component import component

ROOT = Path(__file__).resolve().parents[3]

NAVIGATION: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("", (("explore", "app.py", "Explore"),)),
    (
        "Understand",
        (
            ("with_cache", "pages/with_cache.py", "With a cache"),
            ("why", "pages/why.py", "Why share?"),
            ("heads", "pages/heads.py", "Heads"),
            ("spectrum", "pages/spectrum.py", "MHA – GQA – MQA"),
            ("other_ways", "pages/other_ways.py", "Latent and windows"),
            ("code", "pages/code.py", "The code"),
            ("real_model", "pages/real_model.py", "A real model"),
            ("heads_learn", "pages/heads_learn.py", "What heads learn"),
            ("published", "pages/published.py", "Published results"),
        ),
    ),
    ("Convert", (("lab", "pages/lab.py", "Lab"),)),
    (
        "Compute",
        (
            ("kv_cache", "pages/kv_cache.py", "KV cache"),
            ("compare", "pages/compare.py", "Compare"),
            ("fit", "pages/fit.py", "What fits"),
            ("engines", "pages/engines.py", "Engines"),
            ("accuracy", "pages/accuracy.py", "Accuracy"),
        ),
    ),
    (
        "Measure",
        (
            ("timings", "pages/timings.py", "Timings"),
            ("decode_step", "pages/decode_step.py", "Decode step"),
            ("roofline", "pages/roofline.py", "Roofline"),
        ),
    ),
    ("", (("summary", "pages/summary.py", "What you found out"), ("about", "pages/about.py", "About"))),
)
"""(group, ((page key, file, label), …)). A file that does not exist is left out."""


def address(file: str) -> str:
    """The relative address of the page in `file`; it is the same from every page."""
    # relative, because a proxy may serve the app under its own path
    return "./" if file == "app.py" else Path(file).stem


def _links() -> str:
    groups = []
    for group, entries in NAVIGATION:
        items = "".join(
            f'<li><a href="{address(file)}" data-page="{key}">{html.escape(label)}</a></li>'
            for key, file, label in entries
            if (ROOT / file).exists()
        )
        if items:
            heading, named = (f'<p id="{group}">{group}</p>', f' aria-labelledby="{group}"') if group else ("", "")
            groups.append(f"{heading}<ul{named}>{items}</ul>")
    return "".join(groups)


_BRAND = f'<div class="hs-brand">{4 * "<span></span>"}Headshare</div>'
_component = component(
    Path(__file__).parent,
    html=f'{_BRAND}<nav class="hs-pages" aria-label="Pages">{_links()}</nav>',
    apart=False,
)


def navigation(current: str) -> None:
    """Draw the list; `current` is the key of the page that is shown."""
    _component(key="navigation", data={"current": current})
