"""The parts below the picture of generation without a cache and with one."""

from __future__ import annotations

import streamlit as st

from attention.memory import counterfactuals
from attention.memory.footprint import cache_of
from attention.memory.load import Load
from attention.memory.recompute import Passes
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, held, ratio
from ui import frame, lesson


def metrics(spec: ModelSpec, load: Load, found: Passes) -> None:
    """Draw the passes for the last token and for all tokens, without and with a cache, and the bytes of the cache."""
    with frame.numbers():
        _metric("Without: through the model for the last token", f"{found.last_without:,}", "all tokens so far, again")
        _metric("With a cache", f"{found.last_with:,}", "the new token alone")
        times = ratio(found.without / found.with_cache)
        _metric(f"Without: for all of {held(load.context)}", f"{found.without:,}", f"{times} as many as with a cache")
        kept = cache_of(spec, load).state_bytes
        _metric(f"{counterfactuals.kept_name(spec)} that this takes", binary_bytes(kept), f"{load.kv_dtype}, exact")


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


def words(spec: ModelSpec, label: str, load: Load, found: Passes) -> None:
    """Draw why all of it would be computed again without a cache, and what the cache costs."""
    lesson.show(
        "with_cache",
        model=label,
        last_with=f"{found.last_with:,}",
        last_without=f"{found.last_without:,}",
        context=f"{load.context:,}",
        kept=binary_bytes(cache_of(spec, load).state_bytes),
        sequences=counted(load.batch, "sequence"),
    )
