"""The conversion, judged by transformers: for every family, on small random checkpoints in several shards."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, Gemma3Config

from attention.configs.reader import spec_from_config
from attention.convert.layouts import LAYOUTS
from attention.convert.run import convert
from attention.memory.footprint import sequence_bytes
from tests import convert_models as models
from tests.convert_models import FAMILIES, N_HEADS, N_LAYERS, make_model, save
from tests.long import drawn

N_KV = 6
"""Of 12 query heads: K = 2 merges three heads into one, so no factor is a power of two."""
TOKENS = torch.tensor([[5, 83, 11, 29, 7]])


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}


def load(folder: Path, auto: Any = AutoModelForCausalLM, dtype: Any = None) -> Any:
    """The checkpoint as transformers reads it. It must find every tensor that it wants, and no other."""
    model, info = auto.from_pretrained(
        # the plain loop over experts: the grouped product takes no float64
        folder,
        output_loading_info=True,
        dtype=dtype or "auto",
        experts_implementation="eager",
    )
    assert not any(info.values()), info
    return model.eval()


def slices(name: str, tensor: np.ndarray, n_kv: int, head_dim: int) -> list[list[np.ndarray]] | None:
    """The heads of K and V in a tensor, as the models' forward code has them; None if it holds none."""
    module = name.rsplit(".", 2)[-2]
    if module in ("k_proj", "v_proj"):
        return [[tensor[h * head_dim : (h + 1) * head_dim] for h in range(n_kv)]]
    if module in ("qkv_proj", "Wqkv"):
        k, v = N_HEADS * head_dim, (N_HEADS + n_kv) * head_dim
        return [[tensor[s + h * head_dim : s + (h + 1) * head_dim] for h in range(n_kv)] for s in (k, v)]
    if module == "k_norm" and tensor.size == n_kv * head_dim != head_dim:
        return [list(tensor.reshape(n_kv, head_dim))]
    return None


def head_dim_of(config: Any) -> int:
    return getattr(config, "head_dim", None) or models.HIDDEN // N_HEADS


def pooled(name: str, old: dict[str, np.ndarray], pool: str, n_kv: int, k: int, head_dim: int) -> np.ndarray:
    """What a tensor of the result must be, computed by plain loops over heads in float64."""
    share = n_kv // k

    def merge(heads: list[np.ndarray]) -> np.ndarray:
        if pool == "first":
            return heads[0]
        return (np.sum([h.astype(np.float64) for h in heads], axis=0) / share).astype(heads[0].dtype)

    if ".norms." in name and "k_layernorm" in name:
        stem, head, last = name.rsplit(".", 2)
        return merge([old[f"{stem}.{int(head) * share + i}.{last}"] for i in range(share)])
    parts = slices(name, old[name], n_kv, head_dim)
    if parts is None:
        return old[name]
    merged = [merge(heads[g * share : (g + 1) * share]) for heads in parts for g in range(k)]
    flat = np.concatenate(merged)
    if len(parts) == 2:
        flat = np.concatenate([old[name][: N_HEADS * head_dim], flat])
    return flat.reshape(-1, *old[name].shape[1:])


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) | {"gemma3"} == set(LAYOUTS)


@pytest.mark.parametrize("family", drawn(list(FAMILIES), 20))
def test_family(family: str, tmp_path: Path) -> None:
    model = make_model(family, N_KV)
    source = save(model, tmp_path / "source")
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    assert len(list(source.glob("*.safetensors"))) > 2
    k = 2
    head_dim = head_dim_of(model.config)
    report = convert(source, tmp_path / "target", k)
    converted = load(tmp_path / "target")

    old, new = tensors_of(source), tensors_of(tmp_path / "target")
    gone = {n for n in old if ".k_layernorm.norms." in n and int(n.rsplit(".", 2)[1]) >= k}
    assert set(new) == set(old) - gone
    changed = 0
    for name, tensor in new.items():
        expected = pooled(name, old, "mean", N_KV, k, head_dim)
        # one rounding apart at most: both sum in float64, in their own order
        np.testing.assert_allclose(tensor, expected, rtol=1e-7, atol=1e-9, err_msg=name)
        if expected is old[name]:
            assert tensor.tobytes() == old[name].tobytes(), name
        else:
            changed += 1
    assert changed >= N_LAYERS

    # the cache that the model itself makes, and every count
    with torch.no_grad():
        cache = converted(TOKENS, use_cache=True).past_key_values
        cache_before = model(TOKENS, use_cache=True).past_key_values
    for layer, layer_before in zip(cache.layers, cache_before.layers, strict=True):
        assert layer.keys.shape == layer.values.shape == (1, k, TOKENS.shape[1], head_dim)
        assert layer_before.keys.numel() == N_KV // k * layer.keys.numel()
    assert report.cache_bytes_per_token_before == 2 * 2 * N_LAYERS * N_KV * head_dim
    assert report.cache_bytes_per_token_after == 2 * 2 * N_LAYERS * k * head_dim
    configs = [json.loads((f / "config.json").read_text()) for f in (source, tmp_path / "target")]
    assert [sequence_bytes(spec_from_config(c), 1) for c in configs] == [
        report.cache_bytes_per_token_before, report.cache_bytes_per_token_after
    ]  # fmt: skip
    assert (report.n_heads, report.head_dim, report.n_layers) == (N_HEADS, head_dim, N_LAYERS)
    fewer = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in converted.parameters())
    assert report.parameters_before - report.parameters_after == fewer > 0
    assert report.parameters_after == sum(t.size for t in new.values())
    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in new.values()) == report.bytes_after
    assert {n: (tmp_path / "target" / f).is_file() for n, f in index["weight_map"].items()} == dict.fromkeys(new, True)
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("family", "n_kv", "k"),
    drawn(
        [(family, 12, 4) for family in FAMILIES]
        + [(family, 6, 1) for family in ("llama", "phi3", "olmo2", "cohere", "stablelm", "dbrx")],
        20,
    ),
)
def test_equal_heads_give_equal_logits(family: str, n_kv: int, k: int, tmp_path: Path) -> None:
    model = make_model(family, n_kv)
    head_dim, share = head_dim_of(model.config), n_kv // k
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            view = parameter.numpy()
            for heads in slices(name, view, n_kv, head_dim) or ():
                for h in range(n_kv):
                    heads[h][...] = heads[h // share * share]
            if ".k_layernorm.norms." in name:
                stem, head, last = name.rsplit(".", 2)
                parameter.copy_(model.get_parameter(f"{stem}.{int(head) // share * share}.{last}"))
    source = save(model, tmp_path / "source")
    convert(source, tmp_path / "target", k)
    with torch.no_grad():
        before, after = (load(f, dtype=torch.float64)(TOKENS).logits for f in (source, tmp_path / "target"))
    # float64, so that no rounding decides which experts a token goes to; what is left are float32 parts of the models
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * float(before.abs().max()))
    assert before.std() > 0.01


@pytest.mark.parametrize("pool", ["mean", "first", "random"])
@pytest.mark.parametrize("family", ["llama", "phi3", "olmo2", "cohere", "stablelm"])
def test_as_many_heads_is_the_identity(family: str, pool: str, tmp_path: Path) -> None:
    source = save(make_model(family, N_KV), tmp_path / "source")
    report = convert(source, tmp_path / "target", N_KV, pool)
    old, new = tensors_of(source), tensors_of(tmp_path / "target")
    assert {n: t.tobytes() for n, t in old.items()} == {n: t.tobytes() for n, t in new.items()}
    assert report.parameters_before == report.parameters_after
    assert report.cache_bytes_per_token_before == report.cache_bytes_per_token_after


@pytest.mark.parametrize("family", ["llama", "phi3", "olmo2", "cohere", "stablelm", "dbrx"])
def test_first_head(family: str, tmp_path: Path) -> None:
    model = make_model(family, N_KV)
    source = save(model, tmp_path / "source")
    convert(source, tmp_path / "target", 3, "first")
    old, new = tensors_of(source), tensors_of(tmp_path / "target")
    for name, tensor in new.items():
        expected = pooled(name, old, "first", N_KV, 3, head_dim_of(model.config))
        assert tensor.tobytes() == expected.tobytes(), name
    load(tmp_path / "target")


@pytest.mark.parametrize("family", ["llama", "phi3", "olmo2"])
def test_random_heads(family: str, tmp_path: Path) -> None:
    source = save(make_model(family, N_KV, initializer_range=0.05), tmp_path / "source")
    # the same weights in one file: the seed must mean the same whatever the shards
    single = save(make_model(family, N_KV, initializer_range=0.05), tmp_path / "single", "1GB")
    results = []
    for folder, seed in ((source, 7), (single, 7), (source, 8)):
        target = tmp_path / f"{folder.name}-{seed}"
        convert(folder, target, 2, "random", seed)
        load(target)
        results.append(tensors_of(target))
    old = tensors_of(source)
    for name, tensor in results[0].items():
        assert tensor.tobytes() == results[1][name].tobytes(), name
        if tensor.shape == old[name].shape:
            assert tensor.tobytes() == old[name].tobytes()
        elif name.endswith("norm.weight"):
            assert (tensor == 1).all()
        elif name.endswith("bias"):
            assert (tensor == 0).all()
        else:
            fresh = tensor[-2 * 10 :] if "qkv" in name else tensor
            # 2,400 and more draws: their deviation is within 10 % of the config's
            assert fresh.std() == pytest.approx(0.05, rel=0.1)
            assert tensor.tobytes() != results[2][name].tobytes()


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_cast(dtype: str, tmp_path: Path) -> None:
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    model = make_model("qwen3", N_KV)
    source = save(model, tmp_path / "source")
    report = convert(source, tmp_path / "target", 3, dtype=dtype)
    converted = load(tmp_path / "target")
    assert {p.dtype for p in converted.parameters()} == {wanted}
    assert report.bytes_after == report.parameters_after * wanted.itemsize
    old = dict(model.named_parameters())
    for name, parameter in converted.named_parameters():
        if parameter.shape == old[name].shape:
            assert torch.equal(parameter, old[name].to(wanted)), name


def test_value_too_large_for_fp16(tmp_path: Path) -> None:
    model = make_model("llama", N_KV)
    with torch.no_grad():
        model.model.embed_tokens.weight[3, 5] = 1e6
    source = save(model, tmp_path / "source")
    with pytest.raises(ValueError, match=r"embed_tokens\.weight has values too large for F16"):
        convert(source, tmp_path / "target", 3, dtype="fp16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_bf16_mean_rounds_once(tmp_path: Path) -> None:
    model = make_model("llama", N_KV).to(torch.bfloat16)
    source = save(model, tmp_path / "source")
    convert(source, tmp_path / "target", 2)
    new = load(tmp_path / "target").model.layers[1].self_attn.v_proj.weight
    heads = model.model.layers[1].self_attn.v_proj.weight.detach().double().view(2, 3, 14, -1)
    assert torch.equal(new, ((heads[:, 0] + heads[:, 1] + heads[:, 2]) / 3).to(torch.bfloat16).flatten(0, 1))


def test_single_file_with_tokenizer_and_tied_weights(tmp_path: Path) -> None:
    source = save(make_model("qwen2", N_KV), tmp_path / "source", "1GB")
    for name in ("tokenizer.json", "merges.txt", "chat_template.jinja", "LICENSE", "params.json", "pytorch_model.bin"):
        (source / name).write_text(name)
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tools.jinja").write_text("tools")
    (source / "original").mkdir()
    report = convert(source, tmp_path / "a" / "target", 1)
    target = tmp_path / "a" / "target"
    assert sorted(p.name for p in target.iterdir() if p.is_file()) == [
        "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "merges.txt", "model.safetensors",
        "tokenizer.json",
    ]  # fmt: skip
    assert (target / "additional_chat_templates" / "tools.jinja").read_text() == "tools"
    # other weights, and settings that name the old shapes, would mislead
    assert report.files_left_out == ("original/", "params.json", "pytorch_model.bin")
    converted = load(target)
    assert converted.lm_head.weight is converted.model.embed_tokens.weight
    assert "lm_head.weight" not in tensors_of(target)


def test_multimodal_model_keeps_its_vision_tower(tmp_path: Path) -> None:
    """Its language model's config is nested, and its vision tower has k_proj and v_proj of its own."""
    text = models.make_config("gemma3_text", N_KV).to_dict()
    vision = {"hidden_size": 44, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=127,
                          boi_token_index=128, eoi_token_index=129)  # fmt: skip
    torch.manual_seed(3)
    model = AutoModelForImageTextToText.from_config(config).eval()
    source = save(model, tmp_path / "source")
    report = convert(source, tmp_path / "target", 3, dtype="fp32")
    converted = load(tmp_path / "target", AutoModelForImageTextToText)
    old = dict(model.named_parameters())
    changed = {n for n, p in converted.named_parameters() if p.shape != old[n].shape}
    assert len(changed) == 2 * N_LAYERS
    assert all("language_model" in n and ("k_proj" in n or "v_proj" in n) for n in changed)
    assert converted.config.text_config.num_key_value_heads == 3
    assert "num_key_value_heads" not in json.loads((tmp_path / "target" / "config.json").read_text())
    assert report.n_layers == N_LAYERS


def test_config_that_leaves_its_heads_to_the_defaults(tmp_path: Path) -> None:
    """Gemma 3's published configs do: num_attention_heads = 8, num_key_value_heads = 4, head_dim = 256."""
    changes = {"num_attention_heads": 8, "head_dim": 256, "hidden_size": 24}
    source = save(make_model("gemma3_text", 4, **changes), tmp_path / "source", "1GB")
    config = json.loads((source / "config.json").read_text())
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim"):
        del config[key]
    (source / "config.json").write_text(json.dumps(config))
    report = convert(source, tmp_path / "target", 2)
    assert (report.n_heads, report.n_kv_heads_before, report.head_dim) == (8, 4, 256)
    assert load(tmp_path / "target").config.num_key_value_heads == 2


def test_base_model_checkpoint_without_prefix(tmp_path: Path) -> None:
    model = make_model("llama", N_KV)
    source = save(model.model, tmp_path / "source")
    assert all(name.startswith(("layers.", "embed", "norm")) for name in tensors_of(source))
    convert(source, tmp_path / "target", 1)
    assert tensors_of(tmp_path / "target")["layers.2.self_attn.k_proj.weight"].shape == (14, 120)


def test_dry_run_writes_nothing_and_reports_the_same(tmp_path: Path) -> None:
    source = save(make_model("mistral", N_KV), tmp_path / "source")
    dry = convert(source, tmp_path / "target", 2, dry_run=True).to_json()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]
    wet = convert(source, tmp_path / "target", 2).to_json()
    assert dry.pop("dry_run")
    assert not wet.pop("dry_run")
    assert dry == wet


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    source = save(make_model("phi3", N_KV), tmp_path / "source")
    seen: list[tuple[int, int]] = []
    report = convert(source, tmp_path / "target", 2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (report.bytes_after, report.bytes_after)
    assert all(a[0] < b[0] for a, b in pairwise(seen))
