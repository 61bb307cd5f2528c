"""Asks vLLM's own planner, on a CPU and without weights, for the blocks, groups and tokens of a model's shape.

The planner runs in its own process with the wheel ``vllm`` (requirements-vllm.txt), of which only the Python files are
used. ``vllm_planner`` runs there. This module makes its requests and compares its answers with the computed plans.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from attention.engines import planner_process
from attention.engines.installed import version_of
from attention.engines.vllm import block_of, plan
from attention.engines.vllm_layers import Settings, cache_dtype, rank_heads, state_dtype, state_elements
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role

PLANNER = Path(__file__).with_name("vllm_planner.py")
SECONDS = 600.0
"""Longest time for all answers; the import of vLLM takes most of it."""
_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class Answer(NamedTuple):
    """vLLM's answer to one request and the computed one, each as one line, see ``said``."""

    asked: str
    computed: str

    @property
    def equal(self) -> bool:
        return self.asked == self.computed


def asked_version() -> str:
    """The version of the installed wheel ``vllm``.

    Raises:
        ValueError: the wheel is not installed.
    """
    return version_of("vllm", "--no-deps -r requirements-vllm.txt")


def ask(asked: Iterable[tuple[ModelSpec, Settings, int]]) -> list[Answer]:
    """vLLM's plans beside the computed ones, for each (model, settings, bytes of memory).

    Raises:
        ValueError: the wheel is not installed, the planner does not answer, or the layout of a model is not known here.
    """
    asked_version()
    asked = list(asked)
    requests = [request(*one) for one in asked]
    answers = _answers(requests)
    return [Answer(said(answer), computed(*one)) for answer, one in zip(answers, asked, strict=True)]


def said(answer: dict[str, Any]) -> str:
    """An answer in one line: blocks and their bytes, groups as layers × tokens of a block, tokens, concurrency."""
    if "refused" in answer:
        return "refused: too little memory" if "larger than the available" in answer["refused"] else answer["refused"]
    groups = " ".join(f"{n}×{block or 'state'}" for n, block in sorted(map(tuple, answer["groups"])))
    return (
        f"{answer['blocks']} blocks of {answer['block_bytes']} bytes; groups {groups}; {answer['tokens']} tokens, "
        f"{answer['concurrency']}x"
    )


def computed(spec: ModelSpec, settings: Settings, memory_bytes: int) -> str:
    """The same line by the rules of ``vllm``.

    Raises:
        ValueError: a layout that is not known here.
    """
    pool = plan(spec, settings)
    blocks, length = pool.blocks(memory_bytes), settings.max_model_len
    assert length is not None
    if blocks - 1 < pool.request_blocks(length):
        return said({"refused": "larger than the available"})
    return said(
        {
            "blocks": blocks,
            "block_bytes": pool.block_bytes,
            "groups": [(group.n_layers, 0 if group.kind == "state" else group.block_tokens) for group in pool.groups],
            "tokens": pool.tokens(blocks, "tokens by concurrency"),
            "concurrency": f"{pool.concurrency(blocks):.2f}",
        }
    )


def request(spec: ModelSpec, settings: Settings, memory_bytes: int) -> dict[str, Any]:
    """The request that is sent to ``vllm_planner``.

    Raises:
        ValueError: the dtype of the model or the kernel of its convolution is not known.
    """
    dtype = _NAMES[cache_dtype(spec, settings)]
    return {
        "layers": [one for layer in spec.layers for one in _sent(layer, spec, settings)],
        "n_heads": max(1, spec.n_heads // settings.tp),
        "block": block_of(spec, settings),
        "cache_dtype": settings.kv_dtype,
        "dtype": dtype,
        "max_model_len": settings.max_model_len,
        "in_flight": settings.in_flight,
        "memory": memory_bytes,
        "hybrid_manager": settings.hybrid_manager,
        "draft_tokens": settings.draft_tokens,
        "mamba_cache_mode": "align" if settings.state_pages == 2 else "none",
    }


def _sent(layer: Layer, spec: ModelSpec, settings: Settings) -> Iterable[dict[str, Any]]:
    fixed = [state for state in layer.states if isinstance(state, FixedState)]
    for state in layer.states:
        if not isinstance(state, PositionState):
            continue
        if state.role in (Role.LATENT, Role.INDEXER):
            size = state.k_head_dim + state.v_head_dim
            size += size // 128 * 4 if state.role is Role.INDEXER else 0
            yield {"kind": state.role.name.lower(), "size": size}
            continue
        kind = "full" if state.window is None else "chunk" if layer.kind is Kind.CHUNKED else "window"
        yield {
            "kind": kind,
            "heads": rank_heads(state, settings),
            "k": state.k_head_dim,
            "v": state.v_head_dim,
            "window": state.window,
        }
    if fixed:
        sizes = [state_elements(state, settings) for state in fixed]
        dtypes = [_NAMES[state_dtype(state, spec, settings)] for state in fixed]
        yield {
            "kind": "state",
            "shapes": [[size // min(settings.tp, state.n_heads)] for size, state in zip(sizes, fixed, strict=True)],
            "dtypes": dtypes,
        }


def _answers(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return planner_process.answers(
        PLANNER, requests, SECONDS, "vLLM's planner did not answer: is all of requirements-vllm.txt installed?"
    )
