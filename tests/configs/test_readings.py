"""Files that state more than their family reads, or something else: they are read as the class reads them, or refused.

Every field of every base (`mutated_configs`) is removed, null, 0, doubled and halved, and the fields of other families
are added. Where we answer, the bytes of every layer are those that the model's own code keeps on meta tensors.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from attention.configs.reader import load_config, spec_from_config
from attention.memory.footprint import cache_bytes
from tests.long import SOAK
from tests.mutated_configs import CONTEXT, class_bases, matters, mutations, shipped_bases, silent, with_field

CASES = Path(__file__).parents[1] / "data" / "cases"
SHIPPED = shipped_bases()
SAMPLE = 170


def of_type(model_type: str) -> dict[str, Any]:
    """A base of that type. For Falcon it is one of the old architecture: only that one reads multi_query."""
    return next(
        config
        for config in SHIPPED.values()
        if spec_from_config(config).model_type == model_type and not config.get("new_decoder_architecture")
    )


def layer_bytes(config: dict[str, Any]) -> int:
    """Bytes of the first layer at the test's context, 16 bits an element."""
    spec = spec_from_config(config)
    return cache_bytes(spec, CONTEXT).state_bytes // spec.n_layers


EVERY = {**SHIPPED, **class_bases()} if SOAK else {}
"""In the long form, bases of every type that is read; in the short form none."""


def test_a_sample_of_all_changes_reads_as_the_models_own_code() -> None:
    chosen = random.Random(61)  # the same changes in every run, so that a failure can be repeated
    names = sorted(SHIPPED)
    found = []
    for _ in range(SAMPLE):
        base = SHIPPED[chosen.choice(names)]
        label, changed = chosen.choice(list(mutations(base)))
        text = silent(changed) if matters(base, label, changed) else ""
        if text and not text.startswith("?"):
            found.append(f"{spec_from_config(base).model_type}: {label}: {text}")
    assert not found, "\n".join(found)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EVERY)
def test_every_change_reads_as_the_models_own_code(name: str) -> None:
    """Only the long form has any names; the short form skips this test."""
    found = [f"{label}: {text}" for label, text in _silent(EVERY[name])]
    assert not found, "\n".join(found)


def _silent(base: dict[str, Any]) -> list[tuple[str, str]]:
    out = []
    for label, changed in mutations(base):
        if not matters(base, label, changed):
            continue
        text = silent(changed)
        if text and not text.startswith("?"):
            out.append((label, text))
    return out


@pytest.mark.parametrize(
    ("model_type", "field", "value"),
    [
        ("gpt_bigcode", "head_dim", 256),
        ("mpt", "head_dim", 256),
        ("seed_oss", "head_dim", None),
        ("falcon", "multi_query", None),
        ("gpt_bigcode", "multi_query", None),
        ("gemma4_text", "attention_k_eq_v", None),
        ("deepseek_v4", "compress_rate_csa", 1024),
        ("llama", "sliding_window", 1),
    ],
)
def test_the_class_decides(model_type: str, field: str, value: object) -> None:
    assert silent(with_field(of_type(model_type), field, value)) == ""


def test_null_is_what_the_class_makes_of_it() -> None:
    falcon = of_type("falcon")
    assert falcon["multi_query"] is True
    assert spec_from_config(falcon).n_kv_heads == 1
    heads = falcon["num_attention_heads"]
    assert layer_bytes(with_field(falcon, "multi_query", None)) == heads * layer_bytes(falcon)
    seed = of_type("seed_oss")
    width = seed["hidden_size"] // seed["num_attention_heads"]
    assert spec_from_config(with_field(seed, "head_dim", None)).head_dim == width != seed["head_dim"]


@pytest.mark.parametrize("model_type", ["gpt_bigcode", "mpt", "qwen2_vl", "qwen2_5_vl"])
def test_a_head_size_that_is_not_read_is_said(model_type: str) -> None:
    config = of_type(model_type)
    spec = spec_from_config(with_field(config, "head_dim", 256))
    assert spec.layers == spec_from_config(config).layers
    assert any("head_dim = 256 is stated" in note for note in spec.notes)


@pytest.mark.parametrize(
    ("model_type", "field", "value", "words"),
    [
        ("t5", "head_dim", 128, "head_dim = 128 contradicts d_kv = 64"),
        ("glm4_moe_lite", "head_dim", 128, "head_dim = 128 contradicts qk_rope_head_dim = 64"),
        ("glm4_moe_lite", "head_dim", None, "head_dim = None contradicts qk_rope_head_dim"),
        ("deepseek_v3", "sliding_window", 26, "sliding_window = 26 .* no sliding layers"),
        ("deepseek_v3", "attention_chunk_size", 26, "attention_chunk_size = 26 .* no sliding layers"),
        ("minicpm3", "sliding_window", 26, "sliding_window = 26 .* no sliding layers"),
        ("t5", "sliding_window", 26, "sliding_window = 26 .* no sliding layers"),
        ("mpt", "sliding_window", 26, "sliding_window = 26 .* no sliding layers"),
        ("falcon", "sliding_window", 26, "sliding_window = 26 .* no sliding layers"),
        ("deepseek_v2", "use_mla", False, "use_mla = false contradicts kv_lora_rank = 512"),
        ("mimo_v2_flash", "swa_head_dim", 96, "swa_head_dim = 96 .* 192"),
        ("zamba2", "attention_head_dim", None, "attention_head_dim must be a whole number"),
    ],
)
def test_a_contradiction_is_refused(model_type: str, field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_from_config(with_field(of_type(model_type), field, value))


@pytest.mark.parametrize(
    ("name", "per_token", "state"),
    [
        ("jetmoe-8b-shape", 196_608, 3_932_160_000),
        ("jetmoe-without-num_attention_heads", 196_608, 3_932_160_000),
        ("mistral_large4-nope-layers", 11_008, 220_160_000),
        ("mistral_large4-kv_source_layers", 5_504, 110_080_000),
        ("falcon-40b-2023-RefinedWeb", 122_880, 2_457_600_000),
        ("cohere2_moe-first_k_dense_replace", 12_288, 252_051_456),
        ("cohere2_moe-prefix-pattern", 8_192, 172_228_608),
        ("mpt-gqa-replit-code-v1_5-3b", 131_072, 2_621_440_000),
        ("exaone-4.5-33b", 65_536, 2_116_026_368),
        ("glm-4.1v-9b-flat", 40_960, 819_200_000),
        ("qwen3-asr", 114_688, 2_293_760_000),
        ("vila1.5-3b-llm_cfg", 327_680, 6_553_600_000),
        ("whisper-large-v3", 163_840, 20_000 * 163_840 + 245_760_000),
        ("led-large", 49_152, 20_000 * 98_304),
        ("t5gemma-2b-2b", 53_248, 13 * 4096 * (20_000 + 4096) + 26 * 4096 * 20_000),
        ("deepseek-v4-flash-sgl-deepseek_ref", 0, 143_230_976),
        ("torch_dtype-auto", 131_072, 2_621_440_000),
        ("mistral-params", 131_072, 2_621_440_000),
    ],
)
def test_files_that_were_read_wrongly(name: str, per_token: int, state: int) -> None:
    """One sequence of 20,000 tokens, 16 bits: what the model's own code keeps, or the architecture's arithmetic."""
    cache = cache_bytes(spec_from_config(load_config(CASES / f"{name}.json"), name), 20_000)
    assert (cache.bytes_per_token, cache.state_bytes) == (per_token, state)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpt-multihead-with-kv_n_heads", "kv_n_heads = 8 contradicts attn_type = 'multihead_attention'"),
        ("zamba2-7b-early-file", "mamba_headdim = 64 contradicts .* 7168 over n_mamba_heads = 8"),
    ],
)
def test_files_that_contradict_their_class(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_from_config(load_config(CASES / f"{name}.json"), name)


def test_a_silent_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: here the reader believes a head size that the model's code does not read."""
    from attention.configs.fields import Reader

    monkeypatch.setattr(Reader, "even_head_dim", lambda self, name="head_dim": self.stated("head_dim") or 128)
    assert "bytes read" in silent(with_field(of_type("gpt_bigcode"), "head_dim", 256))
