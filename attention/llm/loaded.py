"""The model in this process's memory. It is loaded once, when it is first needed, and kept until the process ends.

In the server this process is the worker, which ends when it is idle.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from attention.kernels import matvec
from attention.llm import corpus, merged, place, sharings
from attention.llm import model as llm
from attention.llm.model import Model
from attention.llm.tokens import Tokens, tokens_of
from attention.llm.weights import source

Tell = Callable[[str, float], None]
"""Called with (what is being done, the share that is done) while something takes long."""


def _silent(words: str, share: float) -> None:
    pass


class Loaded:
    """A model with its vocabulary, and the same model with other numbers of K/V heads.

    Raises:
        ValueError: see ``model.load`` and ``tokens.tokens_of``.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32, *, as_blocks: bool = True) -> None:
        found = source(path)
        # the vocabulary comes first: if it cannot be read, nobody has waited for the weights
        self.tokens: Tokens = tokens_of(path, found)
        self.model: Model = llm.assemble(found, dtype, as_blocks=as_blocks)
        self.name = path.stem if path.is_file() else path.name
        self._shared: dict[tuple[int, str], Model] = {}
        del found  # drops the file's pages, and the vocabulary as Python strings
        give_back()

    def sharing(self, name: str, merge: str = "mean", tell: Tell = _silent) -> Model:
        """The model with another sharing. Only its K/V rows are new tensors; with the merge "calibrated" also the query
        and output projections. Each model is made once and kept.

        Args:
            name: one of ``plan.SHARINGS``.
            merge: how fewer K/V heads are made, one of ``plan.MERGES``.
            tell: called during a merge that takes long.

        Raises:
            ValueError: the model cannot have this sharing.
        """
        n = n_kv_heads(self.model, name)
        fewer = n < self.model.architecture.n_kv_heads
        key = n, merge if fewer else ""
        if key not in self._shared:
            if fewer and merge == "calibrated":
                made = merged.calibrated(self.model, n, corpus.calibration(self.tokens), tell)
            else:
                made = sharings.with_n_kv_heads(self.model, n)
            self._shared[key] = made
            give_back()
        return self._shared[key]


def n_kv_heads(model: Model, sharing: str) -> int:
    """Number of K/V heads of the model with a sharing of ``plan.SHARINGS``."""
    a = model.architecture
    return {"mha": a.n_heads, "gqa": a.n_kv_heads, "mqa": 1}[sharing]


def get(tell: Tell = _silent) -> Loaded:
    """The model that `place` names, loaded at the first call.

    Args:
        tell: called while the model is loaded.

    Raises:
        ValueError: there is no model, it is damaged, or it is not Llama-like.
    """
    path = place.local()
    key = path, path.stat().st_mtime_ns
    if not _loaded.cache_info().currsize:
        if matvec.unavailable("cpu") is None:
            tell("compiling the kernels for this processor, once", 0.1)
            matvec.native_library()
        tell(f"reading the weights of {place.name()}", 0.5)
    return _loaded(*key)


def make_ready(tell: Tell = _silent) -> Loaded:
    """The model with weights read, kernels compiled and each sharing made, so that its first words need not wait.

    Raises:
        ValueError: see :func:`get`.
    """
    found = get(tell)
    tell("compiling the kernels for this processor, once", 0.6)
    ids = torch.tensor([corpus.fill(found.tokens, 64)])
    with torch.inference_mode():
        for at, name in enumerate(("gqa", "mha", "mqa")):
            tell("trying a few words", 0.8 + 0.05 * at)
            try:
                model = found.sharing(name)
            except ValueError:
                continue  # a model that cannot have a sharing raises this again when a run needs it
            caches = model.caches(65, 1, "bf16")
            model.forward(ids, caches)
            model.forward(ids[:, :1], caches)
    give_back()
    return found


def give_back() -> None:
    """Return free memory to the system. Without this the C library keeps it: here a quarter of the weights."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@cache
def _loaded(path: Path, changed_ns: int) -> Loaded:
    return Loaded(path)
