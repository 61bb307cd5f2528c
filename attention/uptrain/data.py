"""Text as blocks of token ids, in an order that depends only on the seed.

The blocks of a step are a function of (seed, step). So a resumed run, or a run on another number of processes, trains
on the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attention.errors import shown
from attention.files import ordinary

CHUNK_CHARACTERS = 2**20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


@dataclass(frozen=True, eq=False)
class Blocks:
    """Token ids cut into blocks [n, seq_len]. Training blocks and held-out blocks never overlap."""

    train: np.ndarray
    held_out: np.ndarray
    seed: int

    def step(self, step: int, batch: int) -> torch.Tensor:
        """The blocks of one step, int64[batch, seq_len]. An epoch has every block once, each epoch in another order."""
        n = len(self.train)
        wanted = range(step * batch, (step + 1) * batch)
        orders = {epoch: np.random.default_rng((self.seed, epoch)).permutation(n) for epoch in {i // n for i in wanted}}
        return torch.from_numpy(self.train[[orders[i // n][i % n] for i in wanted]].astype(np.int64))


def load_tokenizer(folder: Path) -> Any | None:
    """The checkpoint's own tokenizer, or None if it has none (then bytes are tokens).

    Raises:
        ValueError: its files cannot be read.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers' own code raises errors of many classes
        raise ValueError(f"the tokenizer in {folder} cannot be read: {type(error).__name__} {shown(error)}") from error


def token_ids(files: Sequence[Path], tokenizer: Any | None, vocab_size: int) -> np.ndarray:
    """The tokens of all files, one file after the other: uint32[n].

    After each file comes an end-of-text token, if the tokenizer has one. Without a tokenizer bytes are tokens.

    Raises:
        ValueError: no file, a file that cannot be read or is not UTF-8, or tokens that do not fit the vocabulary.
    """
    if not files:
        raise ValueError("data must name at least one file")
    if tokenizer is None and vocab_size < 256:
        raise ValueError(f"the checkpoint has no tokenizer, and its vocabulary of {vocab_size} cannot hold bytes")
    parts = [part for path in files for part in _file_ids(path, tokenizer)]
    ids = np.concatenate(parts) if parts else np.empty(0, np.uint32)
    if len(ids) and int(ids.max()) >= vocab_size:
        raise ValueError(f"the tokenizer gives token {int(ids.max())}, the model's vocabulary has {vocab_size}")
    return ids


def _file_ids(path: Path, tokenizer: Any | None) -> Iterator[np.ndarray]:
    ordinary(path)
    try:
        if tokenizer is None:
            yield np.fromfile(path, dtype=np.uint8).astype(np.uint32)
            return
        with path.open(encoding="utf-8") as text:
            for chunk in _lines_together(text):
                yield np.asarray(tokenizer(chunk, add_special_tokens=False)["input_ids"], dtype=np.uint32)
        if tokenizer.eos_token_id is not None:
            yield np.asarray([tokenizer.eos_token_id], dtype=np.uint32)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error


def _lines_together(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines, about CHUNK_CHARACTERS at a time, so that no token is cut."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= CHUNK_CHARACTERS:
            yield "".join(held)
            held, size = [], 0
    if held:
        yield "".join(held)


def cut(ids: np.ndarray, seq_len: int, batch: int, eval_share: float, seed: int) -> Blocks:
    """Blocks of `seq_len` tokens. The last `eval_share` of them are held out, in whole batches and at least one batch.

    Raises:
        ValueError: the text is too short for one batch to train on and one to hold out.
    """
    n = len(ids) // seq_len
    held_out = max(1, round(n * eval_share / batch)) * batch
    if n - held_out < batch:
        raise ValueError(
            f"{len(ids):,} tokens are {n:,} blocks of {seq_len}: at least {2 * batch:,} are needed, "
            "one batch to train on and one to evaluate"
        )
    blocks = ids[: n * seq_len].reshape(n, seq_len)
    return Blocks(blocks[:-held_out], blocks[-held_out:], seed)
