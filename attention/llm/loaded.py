"""The model in this process's memory: loaded when first asked for, once, and kept until the process ends.

In the server that is the worker, of which a host has one per device and which ends when nobody asks for anything.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from attention.llm import model as llm
from attention.llm import place
from attention.llm.model import Model
from attention.llm.tokens import Tokens, tokens_of
from attention.llm.weights import source


class Loaded:
    """A model with its vocabulary, and the same model with other numbers of K/V heads."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32, *, as_blocks: bool = True) -> None:
        found = source(path)
        # the vocabulary first: where it cannot be had, nothing has been waited for
        self.tokens: Tokens = tokens_of(path, found)
        self.model: Model = llm.assemble(found, dtype, as_blocks=as_blocks)
        self.name = path.stem if path.is_file() else path.name
        self._shared: dict[int, Model] = {}

    def sharing(self, name: str) -> Model:
        """The model shared as `name` says, of ``plan.SHARINGS``; its other tensors are this model's own.

        Raises:
            ValueError: the model cannot be shared like that.
        """
        n = n_kv_heads(self.model, name)
        if n not in self._shared:
            self._shared[n] = llm.with_n_kv_heads(self.model, n)
        return self._shared[n]


def n_kv_heads(model: Model, sharing: str) -> int:
    """K/V heads of a model shared as `sharing` says, of ``plan.SHARINGS``."""
    a = model.architecture
    return {"mha": a.n_heads, "gqa": a.n_kv_heads, "mqa": 1}[sharing]


def get() -> Loaded:
    """The model that `place` names.

    Raises:
        ValueError: there is none, it is damaged, or it is not Llama-like.
    """
    path = place.local()
    return _loaded(path, path.stat().st_mtime_ns)


@cache
def _loaded(path: Path, changed_ns: int) -> Loaded:
    return Loaded(path)
