"""The decoder against transformers' own classes, on small random checkpoints of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attention.llm import model as llm
from attention.llm.caches import Cache, held_bytes
from attention.llm.model import Model
from attention.llm.sharings import with_n_kv_heads
from tests.llm import checkpoints
from tests.long import SOAK, long

N_TOKENS = 200
PROMPT = 53
TOLERANCE = 4e-5
"""As a share of the largest logit. Five layers have some 20 roundings of 2^-24 each: 6e-6, once for either program. And
transformers' angles are float32: at position 253 the angle of a query and that of a key are each off by up to
253 * 2^-24 = 1.5e-5."""


def _pair(kind: str, folders: pytest.TempPathFactory) -> tuple[Any, Model]:
    folder = folders.mktemp(kind)
    theirs = checkpoints.made(kind, folder)
    return theirs, llm.load(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Model]:
    return _pair("qwen2", tmp_path_factory)


def _ids(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(checkpoints.SIZES["vocab_size"], (1, n), generator=generator)


def _decoded(model: Model, ids: torch.Tensor) -> torch.Tensor:
    """The logits of every position, with the prompt read at once and the rest token by token."""
    caches = model.caches(ids.shape[1])
    parts = [model.forward(ids[:, :PROMPT], caches, every=True)]
    parts += [model.forward(ids[:, at : at + 1], caches) for at in range(PROMPT, ids.shape[1])]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("kind", list(checkpoints.CONFIGS))
def test_logits_are_those_of_transformers_at_every_step(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    theirs, ours = _pair(kind, tmp_path_factory)
    # the kinds between differ in what a few steps show
    ids = _ids(PROMPT + (N_TOKENS if SOAK or kind == "llama" else 19))
    with torch.inference_mode():
        expected = theirs(ids).logits
    found = _decoded(ours, ids)
    worst = (found - expected).abs().amax() / expected.abs().amax()
    assert worst < TOLERANCE, f"{worst:.1e}"


def test_a_long_text_in_pieces_gives_the_logits_of_the_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    _, ours = _pair("gemma3_text", tmp_path_factory)  # it has windows, which a piece may begin in the middle of
    ids = _ids(131)
    whole = ours.forward(ids, ours.caches(131), every=True)
    caches = ours.caches(131)
    pieces = torch.cat([ours.forward(part, caches, every=True) for part in ids.split(47, dim=1)], dim=1)
    assert (whole - pieces).abs().amax() < TOLERANCE * whole.abs().amax()


@long("tests/llm/test_generate.py, of the real model")
def test_copied_kv_heads_change_nothing_and_merged_ones_do(pair: tuple[Any, Model]) -> None:
    _, ours = pair
    ids = _ids(97)
    own = _decoded(ours, ids)
    mha, mqa = with_n_kv_heads(ours, 6), with_n_kv_heads(ours, 1)

    def filled(model: Model) -> Cache:
        caches = model.caches(97)
        model.forward(ids, caches)
        return caches[0]

    assert (_decoded(mha, ids) - own).abs().amax() < TOLERANCE * own.abs().amax()
    assert (_decoded(mqa, ids) - own).abs().amax() > 100 * TOLERANCE * own.abs().amax()
    assert [held_bytes(cache) for cache in (filled(m) for m in (mha, ours, mqa))] == [
        n * 2 * 97 * 16 * 4 for n in (6, 2, 1)
    ]


def test_merging_is_the_mean_of_each_kv_heads_rows(pair: tuple[Any, Model]) -> None:
    theirs, ours = pair
    merged, _ = with_n_kv_heads(ours, 1).layers[3].kv.dense()
    attention = theirs.model.layers[3].self_attn
    for found, theirs_rows in zip(merged.chunk(2), (attention.k_proj.weight, attention.v_proj.weight), strict=True):
        assert torch.allclose(found, (theirs_rows[:16] + theirs_rows[16:]) / 2)


@pytest.mark.parametrize("n_kv_heads", [0, 4, 5, 12])
def test_heads_that_cannot_be_shared_are_refused(pair: tuple[Any, Model], n_kv_heads: int) -> None:
    with pytest.raises(ValueError, match="n_kv_heads must divide n_heads = 6"):
        with_n_kv_heads(pair[1], n_kv_heads)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("model_type", "falcon", "model_type must be one of llama"),
        ("num_key_value_heads", 4, "num_key_value_heads must divide"),
        ("hidden_size", 47, "must have the shape"),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_type must be default, linear or llama3"),
        ("hidden_act", "relu", "hidden_act must be silu"),
        ("num_hidden_layers", 6, "layers.5.input_layernorm.weight'? are missing"),
        ("rms_norm_eps", -1, "rms_norm_eps must be a number above 0"),
        ("layer_types", ["full_attention"], "layer_types must name"),
    ],
)
def test_what_does_not_run_is_refused_by_name(tmp_path: Path, field: str, value: object, told: str) -> None:
    checkpoints.made("llama", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ValueError, match=told):
        llm.load(tmp_path)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    checkpoints.made("llama", tmp_path)
    next(tmp_path.glob("*.safetensors")).rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are never read"):
        llm.load(tmp_path)
