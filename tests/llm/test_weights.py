"""Where weights come from: GGUF files in llama.cpp's order, and files that are cut off, of another kind or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from attention.llm import model as llm
from attention.llm import place, weights
from attention.llm.weights import GgufFile
from tests.llm import checkpoints
from tests.llm.real import needed

PLAIN = {"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _neighbours(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows whose pairs lie half a head apart, put into llama.cpp's order: pair j of a head is rows 2j and 2j + 1."""
    heads = rows.reshape(-1, 2, head_dim // 2, rows.shape[-1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def written(theirs: Any, path: Path, arch: str = "llama", blocks: bool = False) -> Path:
    """A GGUF file of a model; with `blocks` in Q4_1, and the embedding in Q8_0, as llama.cpp makes them."""
    c = theirs.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(c.head_dim)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(3e4)
    writer.add_vocab_size(c.vocab_size)
    for name, weight in theirs.state_dict().items():
        stem, _, kind = name.rpartition(".")
        values = weight.numpy()
        if stem.startswith("model.layers."):
            _, _, index, part = stem.split(".", 3)
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                values = _neighbours(values, c.head_dim)
            stem = f"blk.{index}.{NAMES[part]}"
        else:
            stem = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[stem]
        values = np.ascontiguousarray(values)
        if blocks and values.ndim == 2:
            held = gguf.GGMLQuantizationType.Q8_0 if stem == "token_embd" else gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(f"{stem}.{kind}", gguf.quantize(values, held), raw_dtype=held)
        else:
            writer.add_tensor(f"{stem}.{kind}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoints.CONFIGS, "llama", PLAIN)
        theirs = checkpoints.made("llama", folder)
    return theirs, written(theirs, folder / "small.gguf")


def test_a_gguf_file_holds_the_model_it_was_made_of(small: tuple[Any, Path]) -> None:
    theirs, path = small
    ids = torch.arange(3, 3 + 41)[None]
    ours = llm.load(path)
    with torch.inference_mode():
        expected = theirs(ids).logits
    found = ours.forward(ids, ours.caches(41), every=True)
    assert (found - expected).abs().amax() < 2e-5 * expected.abs().amax()  # see test_model: 41 positions, not 253


@pytest.mark.parametrize("left", [0, 3, 200, 2000, -1])
def test_a_file_cut_anywhere_is_refused(small: tuple[Any, Path], tmp_path: Path, left: int) -> None:
    whole = small[1].read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:left])
    with pytest.raises(ValueError, match=r"GGUF|cut off|missing"):
        llm.load(path)


def test_another_architecture_is_refused_by_name(small: tuple[Any, Path], tmp_path: Path) -> None:
    path = written(small[0], tmp_path / "other.gguf", "falcon")
    with pytest.raises(ValueError, match=r"general.architecture must be one of llama, qwen2, qwen3.*'falcon'"):
        weights.source(path)


@needed
def test_the_packaged_file_is_multiplied_from_blocks_that_lie_side_by_side() -> None:
    """A kernel that multiplies the blocks directly needs this of the file."""
    path = place.local()
    assert isinstance(path, Path)
    found = GgufFile(path)
    raw, kind = found.blocks("model.layers.7.self_attn.q_proj.weight")
    assert gguf.GGMLQuantizationType(kind).name == "Q4_1"
    assert raw.shape == (576, 576 // 32 * 20)
    unpacked = found.tensor("model.layers.7.self_attn.q_proj.weight", torch.float32).numpy()
    # a block is a scale and a minimum in float16, and 32 numbers of 4 bits: the low halves first
    block = np.ascontiguousarray(raw[11, :20])
    scale, least = block[:4].view(np.float16).astype(np.float32)
    four = np.concatenate([block[4:] & 15, block[4:] >> 4])
    assert np.allclose(unpacked[11, :32], scale * four + least)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("/no/such/place", "names nothing that exists"),
        ("README.md", "a model is a folder"),
        ("docs", "config.json cannot"),
    ],
)
def test_a_setting_that_names_no_model_is_refused(monkeypatch: pytest.MonkeyPatch, named: str, told: str) -> None:
    monkeypatch.setenv("HEADSHARE_MODEL", named)
    with pytest.raises(ValueError, match=told):
        weights.source(place.local())


def test_a_hub_id_is_not_fetched_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_MODEL", "someone/some-model")
    monkeypatch.setenv("HEADSHARE_HUB", "0")
    with pytest.raises(ValueError, match="HEADSHARE_HUB = 0 forbids that"):
        place.local()
