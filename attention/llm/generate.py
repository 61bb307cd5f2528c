"""Our own decode loop: the same prompt in columns that differ only in sharing. Columns write in turn, a token each.

The prefill takes in the prompt. After it, each token is one pass over all weights and the cache so far. Columns take
turns token by token, so that a disturbance of the machine affects all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from attention.errors import StoppedError
from attention.kernels import matvec
from attention.layers import KVCache
from attention.llm import corpus
from attention.llm.caches import Cache, empty, held_bytes
from attention.llm.loaded import Loaded, give_back, n_kv_heads
from attention.llm.model import Model
from attention.llm.plan import Plan
from attention.llm.tokens import Writer
from attention.timing import speed
from attention.timing.other_load import OtherLoad

EMIT_S = 0.1
"""Seconds between two messages with new words."""
PIECE = 256
"""Tokens of a long text that are taken in at once. Between two pieces a stop is possible."""

Emit = Callable[[dict[str, Any]], None]
ShouldStop = Callable[[], bool]


class Column:
    """One sharing of the model, and the text that it writes.

    Attributes:
        written: the tokens so far.
        times_s: seconds of each step.
        why: why the column is finished: "end", "length", or "" while it writes.
    """

    def __init__(self, sharing: str, model: Model, plan: Plan, capacity: int, loaded: Loaded) -> None:
        self.sharing, self.model, self._plan = sharing, model, plan
        self.caches: list[Cache] = model.caches(capacity, plan.batch, plan.kv_dtype, plan.values_dtype)
        # all columns have the same seed: columns with equal logits draw the same words
        self._draw = torch.Generator().manual_seed(plan.seed)
        self._writer = Writer(loaded.tokens)
        self._ends = loaded.tokens.ends
        self.written: list[int] = []
        self.times_s: list[float] = []
        self.why = ""
        self._next = torch.empty(0, dtype=torch.int64)

    @property
    def context(self) -> int:
        """Tokens in the cache."""
        return self.caches[0].length

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held, of all layers, see ``caches.held_bytes``."""
        return sum(held_bytes(cache) for cache in self.caches)

    def take_in(self, ids: Sequence[int], should_stop: ShouldStop) -> Tensor | None:
        """Take in `ids`, and return the last token's logits [batch, 1, vocab_size]; None if stopped before."""
        logits = None
        for at in range(0, len(ids), PIECE):
            if should_stop():
                return None
            piece = torch.tensor([ids[at : at + PIECE]]).expand(self._plan.batch, -1)
            logits = self.model.forward(piece, self.caches)
        return logits

    def pick(self, logits: Tensor) -> str:
        """Choose the next token of each sequence. Returns the text that the first sequence's token completes."""
        last = logits[:, -1]
        if self._plan.temperature:
            shares = torch.softmax(last / self._plan.temperature, dim=-1)
            self._next = torch.multinomial(shares, 1, generator=self._draw)
        else:
            self._next = last.argmax(dim=-1, keepdim=True)
        token = int(self._next[0, 0])
        if token in self._ends:
            self.why = "end"
            return ""
        self.written.append(token)
        if len(self.written) == self._plan.tokens:
            self.why = "length"
        return self._writer.add(token)

    def step(self) -> list[Any]:
        """Write one token, and return its row: [sharing, text, seconds, context, cache bytes]."""
        began = time.perf_counter()
        logits = self.model.forward(self._next, self.caches)
        text = self.pick(logits)
        took = time.perf_counter() - began
        self.times_s.append(took)
        return [self.sharing, text, took, self.context, self.cache_bytes]


def run(loaded: Loaded, plan: Plan, emit: Emit, should_stop: ShouldStop) -> dict[str, Any]:
    """Write in all columns. Emits the messages that ``attention.llm.written`` reads, and returns each column's figures.

    Raises:
        ValueError: prompt, fill and tokens together are longer than the model's context, or the model cannot have one
            of the sharings.
    """
    a = loaded.model.architecture
    ids = loaded.tokens.prompt(plan.prompt, plan.chat)
    capacity = plan.context_fill + len(ids) + plan.tokens
    if capacity > a.context:
        raise ValueError(
            f"{plan.context_fill:,} tokens of context, {len(ids):,} of the prompt and {plan.tokens:,} to write make "
            f"{capacity:,}; this model takes {a.context:,}"
        )

    def tell(words: str, share: float) -> None:
        if should_stop():
            raise StoppedError
        emit({"progress": share, "message": words})

    try:
        models = {name: loaded.sharing(name, plan.merge, tell) for name in plan.sharings}
    except StoppedError:
        return {"columns": {}}
    columns = [Column(name, model, plan, capacity, loaded) for name, model in models.items()]
    emit(_about(loaded, plan, columns, len(ids)))
    with torch.inference_mode():
        if not _fill(columns, corpus.fill(loaded.tokens, plan.context_fill), emit, should_stop):
            return {"columns": {}}
        for column in columns:
            emit({"progress": 0.0, "message": f"{column.sharing.upper()} reads the prompt of {len(ids):,} tokens"})
            began = time.perf_counter()
            logits = column.take_in(ids, should_stop)
            if logits is None:
                return {"columns": {}}
            text = column.pick(logits)
            row = [column.sharing, text, time.perf_counter() - began, column.context, column.cache_bytes]
            emit({"kind": "first", "row": row})
            _tell_end(column, emit)
        give_back()
        emit({"kind": "machine", "read_bytes_per_s": speed.calibrate("cpu").read_bytes_per_s})
        load = OtherLoad()
        _write(columns, plan, emit, should_stop)
        emit({"kind": "load", "others": load.taken().others})
    return {"columns": {column.sharing: _figures(column) for column in columns}}


def _about(loaded: Loaded, plan: Plan, columns: Sequence[Column], n_prompt: int) -> dict[str, Any]:
    a = loaded.model.architecture
    return {
        "kind": "model", "name": loaded.name, "n_layers": a.n_layers, "n_heads": a.n_heads, "head_dim": a.head_dim,
        "context": a.context, "prompt_tokens": n_prompt, "fill": plan.context_fill, "batch": plan.batch,
        "kv_dtype": plan.cache_words, "merge": plan.merge, "weight_dtype": held(loaded.model),
        "columns": [
            {"sharing": c.sharing, "n_kv_heads": c.model.architecture.n_kv_heads, "weight_bytes": c.model.step_bytes}
            for c in columns
        ],
    }  # fmt: skip


def held(model: Model) -> str:
    """In words, how the weights are stored and multiplied."""
    kinds = " and ".join(model.kinds)
    if model.kinds[0].startswith("Q"):
        return f"{kinds} blocks as the file has them, multiplied by the native products"
    why = matvec.unavailable("cpu")
    return kinds if why is None else f"{kinds}, multiplied by PyTorch ({why})"


def _fill(columns: Sequence[Column], ids: Sequence[int], emit: Emit, should_stop: ShouldStop) -> bool:
    """Put a long text into every column's cache. Returns false if stopped before.

    MHA's K/V heads are copies of GQA's, so its cache is a copy of GQA's cache. Caches with rounded rows are not copied.
    """
    if not ids:
        return True
    done: dict[str, Column] = {}
    for column in sorted(columns, key=lambda c: c.model.architecture.n_kv_heads):
        source = done.get("gqa") if column.sharing == "mha" and isinstance(column.caches[0], KVCache) else None
        for at in range(0, len(ids), PIECE):
            share = (len(done) + at / len(ids)) / len(columns)
            emit(
                {"progress": share, "message": f"{column.sharing.upper()}: {at:,} of {len(ids):,} tokens in the cache"}
            )
            if source is not None:
                _copy(source, column)
                break
            if column.take_in(ids[at : at + PIECE], should_stop) is None:
                return False
        done[column.sharing] = column
    return True


def _copy(source: Column, target: Column) -> None:
    for a, b in zip(source.caches, target.caches, strict=True):
        assert isinstance(a, KVCache)
        assert isinstance(b, KVCache)
        times = b.k.shape[1] // a.k.shape[1]
        b.append(*(part[:, :, : a.length].repeat_interleave(times, dim=1) for part in (a.k, a.v)))


def _write(columns: Sequence[Column], plan: Plan, emit: Emit, should_stop: ShouldStop) -> None:
    rows: list[list[Any]] = []
    told = time.monotonic()
    n_rounds = 0
    while writing := [column for column in columns if not column.why]:
        # each round begins with another column, because the first one finds the machine as the last one left it
        n_rounds += 1
        turn = n_rounds % len(writing)
        for column in writing[turn:] + writing[:turn]:
            if should_stop():
                _tell(rows, emit)
                return
            rows.append(column.step())
            if column.why:
                _tell(rows, emit)
                _tell_end(column, emit)
        if time.monotonic() - told > EMIT_S:
            told = time.monotonic()
            _tell(rows, emit)
            emit({"progress": n_rounds / plan.tokens, "message": f"Token {n_rounds + 1} of at most {plan.tokens}"})
    _tell(rows, emit)


def _tell(rows: list[list[Any]], emit: Emit) -> None:
    if rows:
        emit({"kind": "steps", "rows": rows[:]})
        rows.clear()


def _tell_end(column: Column, emit: Emit) -> None:
    if column.why:
        emit({"kind": "end", "sharing": column.sharing, "why": column.why})


def _figures(column: Column) -> dict[str, Any]:
    return {
        "tokens": len(column.written),
        "median_step_s": median(column.times_s) if column.times_s else None,
        "cache_bytes": column.cache_bytes,
    }


def memory_needed(loaded: Loaded, plan: Plan) -> int:
    """Most bytes that a run takes: the weights with their copies, and every column's cache."""
    a = loaded.model.architecture
    capacity = min(a.context, plan.context_fill + len(loaded.tokens.prompt(plan.prompt, plan.chat)) + plan.tokens)
    heads = sum(n_kv_heads(loaded.model, name) for name in plan.sharings)
    row = empty(1, 1, 1, a.head_dim, plan.kv_dtype, plan.values_dtype)
    row.length = 1
    return int(1.3 * loaded.model.step_bytes) + plan.batch * capacity * a.n_layers * heads * held_bytes(row)
