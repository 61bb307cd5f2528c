"""Weights in a GGUF file's blocks: their results compared with the same weights in float32, and the bytes they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attention.kernels import compiler, cpp, matvec
from attention.llm import generate
from attention.llm import model as llm
from attention.llm.model import Model
from attention.llm.sharings import with_n_kv_heads
from tests.llm import checkpoints
from tests.llm.test_weights import PLAIN, written

needs_compiler = pytest.mark.skipif(compiler.missing() is not None, reason="no C++ compiler")
SIZES = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3}
PROMPT, N_TOKENS = 11, 23
LAYERS = SIZES["num_hidden_layers"]
TOLERANCE = 5e-5 * (4 * LAYERS) ** 0.5
"""As a share of the largest logit. Blocks of four bits are multiplied with numbers rounded to a 2^15th of the largest
of 32. The root mean square of such a rounding is 2^-15 / sqrt(12) of that largest number, which is at most sqrt(32)
times the root mean square of all 32: together 5e-5 of it. A layer has four such products in a row, and each adds its
own part."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoints.CONFIGS, "llama", {**PLAIN, **SIZES})
        theirs = checkpoints.made("llama", folder)
    return written(theirs, folder / "blocks.gguf", blocks=True)


@pytest.fixture(scope="module")
def pair(path: Path) -> tuple[Model, Model]:
    return llm.load(path), llm.load(path, as_blocks=False)


def _decoded(model: Model) -> torch.Tensor:
    """The logits of every position, with the prompt read at once and the rest token by token."""
    ids = torch.randint(331, (1, N_TOKENS), generator=torch.Generator().manual_seed(7))
    caches = model.caches(N_TOKENS)
    parts = [model.forward(ids[:, :PROMPT], caches, every=True)]
    parts += [model.forward(ids[:, at : at + 1], caches) for at in range(PROMPT, N_TOKENS)]
    return torch.cat(parts, dim=1)


def _off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().amax() / expected.abs().amax())


@needs_compiler
def test_blocks_give_the_logits_of_the_same_weights_in_float32(pair: tuple[Model, Model]) -> None:
    blocks, wide = pair
    assert blocks.kinds == ("Q4_1",)  # the head is Q4_1 too, for it is not the embedding's
    assert blocks.embed.kind == "Q8_0"
    assert wide.kinds == ("float32",)
    assert generate.held(blocks) == "Q4_1 blocks as the file has them, multiplied by the native products"
    assert _off(_decoded(blocks), _decoded(wide)) < TOLERANCE


@needs_compiler
@pytest.mark.parametrize("n_kv_heads", [6, 1])
def test_copied_and_merged_heads_are_those_of_the_float32_weights(pair: tuple[Model, Model], n_kv_heads: int) -> None:
    found, expected = (with_n_kv_heads(model, n_kv_heads) for model in pair)
    assert _off(_decoded(found), _decoded(expected)) < TOLERANCE
    # copies stay blocks: as many bytes as the published heads have, times the copies
    own = pair[0].layers[0].kv.nbytes
    assert found.layers[0].kv.nbytes == (3 * own if n_kv_heads == 6 else 2 * 16 * 96 * 4)


@needs_compiler
@pytest.mark.parametrize("batch", [3, 11])
def test_sequences_decoded_together_are_those_decoded_alone(pair: tuple[Model, Model], batch: int) -> None:
    """The layer's native calls take three sequences; eleven are more than they take."""
    ids = torch.randint(331, (batch, 5), generator=torch.Generator().manual_seed(3))
    caches, alone = pair[0].caches(5, batch), pair[0].caches(5)
    together = torch.cat([pair[0].forward(ids[:, at : at + 1], caches) for at in range(5)], dim=1)
    own = torch.cat([pair[0].forward(ids[-1:, at : at + 1], alone) for at in range(5)], dim=1)
    # sums in another order differ by 2^-24, and may take a number to the next of its 2^15 steps
    assert _off(together[-1:], own) < TOLERANCE


@needs_compiler
def test_a_step_reads_the_bytes_of_the_file(pair: tuple[Model, Model]) -> None:
    """Counted from the sizes: Q4_1 has 20 bytes for 32 weights, Q8_0 34, norms are float32."""
    hidden, width, vocab = 96, 160, 331
    layer = (96 * hidden * 2 + 2 * 32 * hidden + 3 * hidden * width) // 32 * 20 + 2 * hidden * 4
    expected = LAYERS * layer + hidden * 4 + vocab * hidden // 32 * 20 + hidden // 32 * 34
    assert pair[0].step_bytes == expected


def test_without_a_compiler_the_weights_are_float32_and_it_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp, "unavailable", lambda library: "no C++ compiler was found")
    model = llm.load(path)
    assert model.kinds == ("float32",)
    assert generate.held(model) == "float32, multiplied by PyTorch (no C++ compiler was found)"
    assert matvec.unavailable("cpu")
    assert _decoded(model).isfinite().all()
