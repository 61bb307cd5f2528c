"""The text of a calibrated conversion, as windows of the checkpoint's own tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention.convert import checkpoint as ckpt
from attention.convert.layouts import text_config
from attention.files import ordinary

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

WINDOW = 512
MIN_WINDOW = 16
MAX_BYTES = 256 * 2**20
HELD_OUT_TOKENS = 2**13
HELD_OUT_SHARE = 4
"""Of the default text, one topic in so many is held out."""


def windows(
    source: Path, file: Path | None, n_tokens: int, tokens_of: Callable[[str, int], np.ndarray[Any, Any]]
) -> tuple[Tensor, Tensor, str]:
    """(windows to calibrate on, held-out windows, where they come from in words). Windows are int64[n, length].

    The default text is Python's topics. With a caller's file, the text after the first `n_tokens` tokens is held out;
    if it is too short, Python's held-out topics are.

    Args:
        source: the checkpoint's folder.
        file: the text, or None for the default.
        n_tokens: most tokens to calibrate on.
        tokens_of: (text, size of the vocabulary) -> the checkpoint's tokens.

    Raises:
        ValueError: n_tokens is too small; or the text is empty, too short, too large, no text, or does not fit the
            vocabulary.
    """
    import torch

    if n_tokens < 2 * MIN_WINDOW:
        raise ValueError(f"--tokens must be at least {2 * MIN_WINDOW}, got {n_tokens}")
    fields = text_config(ckpt.read_checkpoint(source).config)
    vocabulary = fields.get("vocab_size")
    if not isinstance(vocabulary, int):
        raise ValueError(f"config.json must state vocab_size as a whole number, got {vocabulary!r}")
    fitted, held = topics()
    if file is None:
        ids, others = tokens_of(fitted, vocabulary), tokens_of(held, vocabulary)
        text = "pydoc_data.topics, three topics of four"
    else:
        ids = tokens_of(_read(file), vocabulary)
        ids, others = ids[:n_tokens], ids[n_tokens:]
        text = str(file)
    ids = ids[:n_tokens]
    if len(ids) < 2 * MIN_WINDOW:
        raise ValueError(f"the calibration text {text} has {len(ids)} tokens, at least {2 * MIN_WINDOW} are needed")
    limit = fields.get("max_position_embeddings")
    length = min(WINDOW, limit if isinstance(limit, int) and limit > 0 else WINDOW, max(MIN_WINDOW, len(ids) // 4))
    if len(others) < max(length, len(ids) // 8):
        others = tokens_of(held, vocabulary)
    cut = [torch.from_numpy(x[: len(x) // length * length].astype("int64")).view(-1, length) for x in (ids, others)]
    return cut[0], cut[1][: max(1, HELD_OUT_TOKENS // length)], text


def topics() -> tuple[str, str]:
    """(text to calibrate on, held-out text): Python's own language reference, topic by topic."""
    from pydoc_data import topics as reference

    names = sorted(reference.topics)
    held = names[HELD_OUT_SHARE - 1 :: HELD_OUT_SHARE]
    parts = [[reference.topics[n] for n in names if (n in held) == side] for side in (False, True)]
    return "\n\n".join(parts[0]), "\n\n".join(parts[1])


def device(name: str) -> str:
    """`name`, if torch has such a device here.

    Raises:
        ValueError: torch has no such device.
    """
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"--device must be one that torch has here, got {name!r}: {str(error).splitlines()[0]}"
        ) from None
    return name


def _read(file: Path) -> str:
    try:
        if (size := ordinary(file).stat().st_size) > MAX_BYTES:
            raise ValueError(f"--calibration {file} has {size:,} bytes, at most {MAX_BYTES:,} are read")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read --calibration {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--calibration {file} is not UTF-8 text") from error
    if "\0" in text:
        raise ValueError(f"--calibration {file} is not text: it holds zero bytes")
    if not text.strip():
        raise ValueError(f"--calibration {file} is empty")
    return text
