"""A view in one sentence, with its bars: for the preview of a link, for paper, and for the text of a copied link.

The numbers come from the same functions of ``attention`` as those of the pages. A pasted configuration is not read
here: reading it may load transformers' classes, and a stranger's request must not do that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from attention import sharing
from attention.catalog import published
from attention.formats import WEIGHT_BITS
from attention.memory import comparison, counterfactuals
from attention.memory.load import Load
from attention.memory.recompute import passes
from attention.memory.waterfall import waterfall
from attention.serving import fit
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.roofline import cache_share
from attention.spec import Kind, ModelSpec, uniform_spec
from attention.units import binary_bytes, counted, held, significant
from ui import params
from ui.components.navigation import NAVIGATION
from ui.components.path import PATH
from ui.params import PASTED, SHARED, TYPED, Param
from viz import bars as figures
from viz.bars import Bar

LABELS = {key: label for _, entries in NAVIGATION for key, _, label in entries}
PURPOSE = "See why modern language models share key/value heads, and compute what it saves for any model."
_SAYS = {stop.page: stop.says for stop in PATH} | {
    # for these pages the path's sentence describes only the one view to which it leads
    "why": "Which part of a decode step's traffic is cache, and which is weights.",
    "kv_cache": "What a model's cache of keys and values needs, byte for byte.",
    "compare": "What each model keeps per token, and how its cache grows with the context.",
    "fit": "The longest context, the largest batch and the fewest accelerators.",
    "accuracy": "Every model, counted by its own code beside ours.",
}
_MOST_BARS = 5

OWN: dict[str, tuple[Param, ...]] = {
    "explore": (params.integer("e_kv", 0, 0, 1024, per_model=True),),
    "heads": (params.integer("h_kv", 0, 0, 1024, per_model=True),),
    "spectrum": (params.integer("spec_kv", 0, 0, 1024, per_model=True),),
    "compare": (
        params.Param(
            "cmp",
            [
                "meta-llama/Llama-2-7b-hf",
                "meta-llama/Llama-3.1-8B",
                "Qwen/Qwen3-8B",
                "google/gemma-3-27b-pt",
                "deepseek-ai/DeepSeek-V3",
            ],
            lambda text: comparison.column(text).write(),
            "models of the catalogue",
            many=True,
        ),
    ),
    "fit": (
        params.choice("f_acc", [row.id for row in published.accelerators()], "h100-sxm"),
        params.integer("f_count", 1, 1, MAX_COUNT),
        params.choice("f_weights", list(WEIGHT_BITS), "bf16"),
        params.integer("f_util", 90, 50, 100),
        params.number("f_reserve", 1.0, 0, 64),
        params.integer("f_page", 16, 1, 2**16),
        params.choice("f_pool", ("own", "shared"), "own"),
    ),
}
"""The page's own keys on which its sentence depends, as the page declares them; a test compares both."""


class ViewWords(NamedTuple):
    """The words about a view.

    Attributes:
        page: the page's label. says: the finding in one sentence. about: what the page shows.
        model: label of the model; "" if the page shows none or several.
        heads: (query heads, K/V heads) of the layer shown; None if there are none.
        bars: at most five bars in one unit.
    """

    page: str
    says: str
    about: str
    model: str = ""
    heads: tuple[int, int] | None = None
    bars: tuple[Bar, ...] = ()


def known(page: str) -> tuple[Param, ...]:
    """The address keys that the words of a page depend on."""
    return (*SHARED, *OWN.get(page, ()))


def of(page: str, values: Mapping[str, Any]) -> ViewWords:
    """The words of a page of ``NAVIGATION`` at these values of its address keys; a missing key has its default.

    Args:
        values: valid values of the keys in ``known(page)``. If no finding can be computed from them, the page's general
            sentence takes its place.
    """
    frozen = []
    for param in known(page):
        value = values.get(param.key, param.default)
        frozen.append((param.key, tuple(value) if param.many else value))
    return _of(page, tuple(frozen))


@lru_cache(maxsize=512)
def _of(page: str, frozen: tuple[tuple[str, Any], ...]) -> ViewWords:
    values = dict(frozen)
    about = _SAYS.get(page, PURPOSE)
    make = _PAGES.get(page)
    if make is not None:
        # the page itself would show this error as a message
        with suppress(ValueError):
            return make(ViewWords(LABELS[page], "", about), values)
    return ViewWords(LABELS[page], about.rstrip("."), PURPOSE)


def times(ratio: float) -> str:
    """A factor in words: "4 times", "3.56 times"."""
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def _load(values: Mapping[str, Any]) -> Load:
    return Load(values["context"], values["batch"], values["kv"])


def _at(load: Load) -> str:
    many = f", {counted(load.batch, 'sequence')}" if load.batch > 1 else ""
    stored = f", {load.kv_dtype}" if load.kv_dtype != "bf16" else ""
    return f"at {held(load.context)}{many}{stored}"


def _model(values: Mapping[str, Any]) -> tuple[str, ModelSpec]:
    """Label and layers of the chosen model.

    Raises:
        ValueError: it is a pasted configuration, or the typed sizes do not describe a model.
    """
    key = values["model"]
    if key == PASTED:
        raise ValueError("a pasted configuration is not read here")
    row = None if key == TYPED else published.model(key)
    if row is not None and row.spec is not None:
        return row.label, row.spec
    sizes = (values["layers"], values["heads"], values["kv_heads"], values["head_dim"], values["window"] or None)
    return "typed sizes" if row is None else f"{row.label}, sizes typed", uniform_spec(*sizes)


def _named(values: Mapping[str, Any]) -> tuple[str, ModelSpec]:
    """As :func:`_model`, with a label that can begin a sentence."""
    label, spec = _model(values)
    return f"{label[0].upper()}{label[1:]}" if values["model"] == TYPED else label, spec


def _size(own: str | None) -> Callable[[ViewWords, Mapping[str, Any]], ViewWords]:
    """The function for a page about one model's cache; `own` is the page's key for another number of K/V heads."""

    def words(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
        label, spec = _named(values)
        load, chosen = _load(values), (values[own] if own else 0) or None
        if chosen and spec.n_heads % chosen:
            chosen = None  # the slider does the same
        rows = counterfactuals.ends(spec, load, n_kv_heads=chosen)
        model = next(row for row in rows if row.is_model)
        shown = next((row for row in rows if row.n_kv_heads == chosen and row is not model), model)
        mha = next((row for row in rows if row.label == "MHA"), shown)
        if not sharing.has_attention(spec):
            beside = "one fixed size, whatever the context"
        elif shown is mha:
            beside = "a K/V head for each query head"
        else:
            beside = f"{times(mha.state_bytes / shown.state_bytes)} smaller than with MHA"
        as_other = "" if shown is model else f" as {shown.label}"
        return plain._replace(
            says=f"{label}{as_other} {_at(load)}: {binary_bytes(shown.state_bytes)}, {beside}",
            model=label,
            heads=_heads(spec, None if shown is model else shown.n_kv_heads),
            bars=figures.ends(rows, shown)[:_MOST_BARS],
        )

    return words


def _heads(spec: ModelSpec, chosen: int | None = None) -> tuple[int, int] | None:
    layer = spec.attention_layer
    if layer is None or not layer.n_heads or (layer.kind is Kind.LATENT and not chosen):
        return None
    return layer.n_heads, chosen or layer.n_kv_heads


def _sharing(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    sized = _size("h_kv")(plain, values)
    if sized.heads is None:
        return sized
    n_heads, n_kv_heads = sized.heads
    how = f"{counted(n_heads, 'query head')}, {counted(n_kv_heads, 'K/V head')} ({sharing.name(n_heads, n_kv_heads)})"
    return sized._replace(says=f"{sized.model}: {how}")


def _passes(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    label, spec = _named(values)
    load = _load(values)
    found = passes(load)
    return plain._replace(
        says=f"{label}, {held(load.context)}: {found.with_cache:,} passes through the model with a cache, "
        f"{found.without:,} without",
        model=label,
        heads=_heads(spec),
        bars=(
            Bar("without", f"{found.without:,}", found.without, figures.SHARING_COLORS["MHA"]),
            Bar("with a cache", f"{found.with_cache:,}", found.with_cache, figures.ACCENT, own=True),
        ),
    )


def _share_read(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    label, spec = _named(values)
    load = _load(values)
    share = cache_share(spec, load, spec.model_dtype or "bf16")
    users = counted(load.batch, "user")
    return plain._replace(
        says=f"{users} of {label} at {held(load.context)}: {significant(100 * share, 2)} % of what a decode step reads "
        "is cache",
        model=label,
        heads=_heads(spec),
        bars=(
            Bar("cache", f"{significant(100 * share, 2)} %", share, figures.ADDED, own=True),
            Bar("weights", f"{significant(100 - 100 * share, 2)} %", 1 - share, figures.ACCENT),
        ),
    )


def _ideas(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    label, spec = _named(values)
    load = _load(values)
    steps = waterfall(spec, load)
    if len(steps) < 2:
        return _size(None)(plain, values)
    first, last = steps[0].state_bytes, steps[-1].state_bytes
    return plain._replace(
        says=f"{label} {_at(load)}: from {binary_bytes(first)} as plain MHA to {binary_bytes(last)}",
        model=label,
        heads=_heads(spec),
        bars=figures.waterfall(steps)[-_MOST_BARS:],
    )


def _side_by_side(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    columns = [comparison.column(text) for text in values["cmp"] if text.partition("~")[0] != PASTED]
    load = _load(values)
    rows = [row for row in comparison.compare(columns, load) if row.state_bytes is not None]
    if not rows:
        raise ValueError("none of these models has published sizes")
    rows.sort(key=lambda row: -(row.state_bytes or 0))
    most, least = rows[0], rows[-1]
    says = f"{most.label} {_at(load)}: {binary_bytes(most.state_bytes or 0)}"
    if least is not most:
        between = f" ({len(rows) - 2} more between)" if len(rows) > 2 else ""
        says = f"{says}, {least.label}: {binary_bytes(least.state_bytes or 0)}{between}"
    picked = rows if len(rows) <= _MOST_BARS else [*rows[: _MOST_BARS - 1], least]
    return plain._replace(
        says=says,
        bars=tuple(
            Bar(row.label, binary_bytes(row.state_bytes or 0), row.state_bytes or 0, figures.ACCENT, own=row is least)
            for row in picked
        ),
    )


def _fits(plain: ViewWords, values: Mapping[str, Any]) -> ViewWords:
    label, spec = _named(values)
    load = _load(values)
    accelerator = published.accelerator(values["f_acc"])
    setup = Setup(
        accelerator,
        values["f_count"],
        values["f_weights"],
        load.kv_dtype,
        utilisation=values["f_util"] / 100,
        reserve_bytes=round(values["f_reserve"] * 2**30),
        page_tokens=values["f_page"],
        window_pool=values["f_pool"],
    )
    # compute only what the verdict needs: a whole plan takes twenty times as long
    budget = fit.budget(spec, setup)
    states = fit.state_bytes_per_rank(spec, setup, load.context, load.batch)
    bar = serving.memory_bar(budget, states)
    many = setup.count > 1
    on = f"{setup.count} × {accelerator.label}" if many else f"one {accelerator.label}"
    each = " on each" if many else ""
    verdict = (
        f"fits, {binary_bytes(bar.free)} free{each}"
        if states <= budget.state_room_bytes
        else f"{binary_bytes(bar.over)} too much{each}"
    )
    return plain._replace(
        says=f"{label} {_at(load)} on {on}: {verdict}",
        model=label,
        heads=_heads(spec),
        bars=figures.memory(bar)[:_MOST_BARS],
    )


_PAGES: dict[str, Callable[[ViewWords, Mapping[str, Any]], ViewWords]] = {
    "explore": _size("e_kv"),
    "with_cache": _passes,
    "why": _share_read,
    "heads": _sharing,
    "spectrum": _size("spec_kv"),
    "other_ways": _ideas,
    "kv_cache": _size(None),
    "compare": _side_by_side,
    "fit": _fits,
    "engines": _size(None),
    "decode_step": _size(None),
    "roofline": _size(None),
}
"""Page -> the function that makes its words. The other pages are not about one model or a choice of models."""
