"""The recorded answers of vLLM's own planner for every model of the catalogue, beside what is computed.

``python -m attention verify --engine vllm --record`` fills ``data/engines_vllm.json``; the page and the tests read it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attention.catalog import published
from attention.engines import ask_vllm
from attention.engines.asked import Row, write
from attention.engines.rules import conv_kernel
from attention.engines.vllm import plan
from attention.engines.vllm_layers import Settings
from attention.spec import ModelSpec, Role

FILE = Path(__file__).parents[1] / "data" / "engines_vllm.json"
CONTEXTS = (8000, 65536)
"""Values of max_model_len. 8,000 tokens are less than a window with the tokens in flight."""
FORMATS = ("auto", "fp8", "int8_per_token_head", "nvfp4")
RECORDS = ("auto", "fp8_ds_mla", "nvfp4_ds_mla")
"""Formats for models whose indexer picks latent vectors."""
MEMORY_BYTES = 250 * 10**9


def formats(spec: ModelSpec) -> tuple[str, ...]:
    """The formats in which vLLM is asked for a model."""
    picked = any(state.role is Role.INDEXER for layer, _ in spec.groups for state in layer.states)
    return RECORDS if picked else FORMATS


def settings_of(spec: ModelSpec, kernel: int | None, context: int, kind: str) -> Settings:
    """The settings for one question. A model that states no dtype is asked for in bf16."""
    return Settings(context, kv_dtype=kind, conv_kernel=kernel, dtype=None if spec.model_dtype else "bf16")


def record(progress: Callable[[str], None], path: Path = FILE) -> list[Row]:
    """Ask vLLM's planner for every model of the catalogue, and write the file.

    Models with equal layers, dtype and type are asked once.

    Raises:
        ValueError: the wheel is not installed, or the planner does not answer.
    """
    about = {"vllm": f"vllm {ask_vllm.asked_version()}", "date": datetime.now(UTC).date().isoformat()}
    about["memory"] = f"{MEMORY_BYTES} bytes"
    sent: dict[Any, tuple[ModelSpec, Settings, int]] = {}
    wanted: list[tuple[str, int, str, Any, str | None]] = []
    for row in published.models():
        if row.spec is None:
            continue
        kernel = conv_kernel(row.config)
        for context in CONTEXTS:
            for kind in formats(row.spec):
                settings = settings_of(row.spec, kernel, context, kind)
                key, reason = (row.spec.layers, row.spec.model_dtype, row.spec.model_type, settings), None
                try:
                    plan(row.spec, settings)
                except ValueError as error:
                    reason = str(error)
                else:
                    sent.setdefault(key, (row.spec, settings, MEMORY_BYTES))
                wanted.append((row.id, context, kind, key, reason))
        progress(row.id)
    answers = dict(zip(sent, ask_vllm.ask(sent.values()), strict=True))
    rows = [
        Row(model, context, kind, None, None, reason)
        if reason
        else Row(model, context, kind, answers[key].asked, answers[key].computed, None)
        for model, context, kind, key, reason in wanted
    ]
    write(path, about, rows)
    return rows


def computed_now(row: Row, spec: ModelSpec, kernel: int | None) -> str:
    """The computed line for a recorded row, by the current rules.

    Raises:
        ValueError: a layout that is not known here.
    """
    return ask_vllm.computed(spec, settings_of(spec, kernel, row.context, row.kind), MEMORY_BYTES)
