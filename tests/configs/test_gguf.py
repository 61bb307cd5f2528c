"""GGUF headers: they give the same layers as the model's published config.json; llama.cpp's rules; refusals."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from attention.catalog.sources import resolve
from attention.commands import fit, kv
from attention.configs import gguf_header, gguf_types, parameter_rules
from attention.configs.gguf_windows import WINDOWS
from attention.configs.parts import decoder_part
from attention.configs.reader import load_config, spec_from_config
from attention.memory.footprint import sequence_bytes
from attention.parameters import Routed
from attention.spec import Kind
from tests.gguf_files import header, of

CONFIGS = Path(__file__).parents[1] / "data" / "configs"


def sizes(
    blocks: int, width: int, heads: Any, kv: Any = None, head_dim: int | None = None, **more: Any
) -> dict[str, Any]:
    """Keys of ordinary attention, under the names that converted files have."""
    out = {"block_count": blocks, "embedding_length": width, "attention.head_count": heads}
    if kv is not None:
        out["attention.head_count_kv"] = kv
    if head_dim is not None:
        out |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    return out | {name.replace("__", "."): value for name, value in more.items()}


def window(size: int, pattern: Any = None) -> dict[str, Any]:
    out: dict[str, Any] = {"attention__sliding_window": size}
    return out if pattern is None else {**out, "attention__sliding_window_pattern": pattern}


def latent(blocks: int, width: int, heads: int, nope: int, value: int, **more: Any) -> dict[str, Any]:
    """Keys of latent attention of rank 512 with 64 dimensions of positions."""
    return {
        **sizes(blocks, width, heads, 1, **more),
        **{"attention.key_length": 576, "attention.value_length": 512, "attention.kv_lora_rank": 512},
        **{"attention.key_length_mla": nope + 64, "attention.value_length_mla": value, "rope.dimension_count": 64},
    }


DELTA = {"ssm__conv_kernel": 4, "ssm__state_size": 128, "ssm__group_count": 16}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "meta-llama__Meta-Llama-3.1-8B": ("llama", sizes(32, 4096, 32, 8, context_length=131072)),
    "meta-llama__Meta-Llama-3.1-405B": ("llama", sizes(126, 16384, 128, 8)),
    "HuggingFaceTB__SmolLM2-135M-Instruct": ("llama", sizes(30, 576, 9, 3)),
    "mistralai__Mixtral-8x7B-v0.1": ("llama", sizes(32, 4096, 32, 8, expert_count=8, expert_used_count=2)),
    "Qwen__Qwen2.5-7B-Instruct": ("qwen2", sizes(28, 3584, 28, 4)),
    "Qwen__Qwen3-8B": ("qwen3", sizes(36, 4096, 32, 8, 128, context_length=40960)),
    "Qwen__Qwen3-30B-A3B": ("qwen3moe", sizes(48, 2048, 32, 4, 128)),
    "google__gemma-7b": ("gemma", sizes(28, 3072, 16, 16, 256)),
    "google__gemma-2-27b-it": ("gemma2", sizes(46, 4608, 32, 16, 128, **window(4096))),
    "google__gemma-3-27b-it": ("gemma3", sizes(62, 5376, 32, 16, 128, **window(1024))),
    "google__gemma-3-1b-it": ("gemma3", sizes(26, 1152, 4, 1, 256, **window(512))),
    "google__gemma-3n-E2B-it": ("gemma3n", sizes(30, 2048, 8, 2, 256, **window(512, [i % 5 < 4 for i in range(30)]))),
    "google__gemma-4-26B-A4B": (
        "gemma4",
        sizes(30, 2816, 16, [2 if i % 6 == 5 else 8 for i in range(30)], 512, attention__key_length_swa=256,
              attention__value_length_swa=256, attention__shared_kv_layers=0,
              **window(1024, [i % 6 < 5 for i in range(30)])),
    ),
    "openai__gpt-oss-120b": ("gpt-oss", sizes(36, 2880, 64, 8, 64, **window(128))),
    "CohereForAI__c4ai-command-r7b-12-2024": ("cohere2", sizes(32, 4096, 32, 8, 128, **window(4096))),
    "CohereForAI__c4ai-command-r-plus": ("command-r", sizes(64, 12288, 96, 8)),
    "allenai__OLMo-2-1124-7B": ("olmo2", sizes(32, 4096, 32, 32)),
    "allenai__Olmo-3-1025-7B": ("olmo2", sizes(32, 4096, 32, 32, **window(4096, [i % 4 < 3 for i in range(32)]))),
    "meta-llama__Llama-4-Scout-17B-16E-Instruct": ("llama4", sizes(48, 5120, 40, 8, 128)),
    "microsoft__Phi-3-mini-4k-instruct": ("phi3", sizes(32, 3072, 32, 32, **window(2047))),
    "microsoft__phi-4": ("phi3", sizes(40, 5120, 40, 10, **window(0))),
    "openai-community__gpt2": ("gpt2", sizes(12, 768, 12)),
    "EleutherAI__gpt-neox-20b": ("gptneox", sizes(44, 6144, 64)),
    "tiiuae__falcon-7b": ("falcon", sizes(32, 4544, 71, 1)),
    "tiiuae__falcon-40b": ("falcon", sizes(60, 8192, 128, 8)),
    "bigcode__starcoder": ("starcoder", sizes(40, 6144, 48, 1)),
    "bigscience__bloom": ("bloom", sizes(70, 14336, 112)),
    "mosaicml__mpt-7b": ("mpt", sizes(32, 4096, 32)),
    "THUDM__chatglm2-6b": ("chatglm", sizes(28, 4096, 32, 2)),
    "internlm__internlm2-7b": ("internlm2", sizes(32, 4096, 32, 8)),
    "ibm-granite__granite-3.3-8b-instruct": ("granite", sizes(40, 4096, 32, 8)),
    "deepseek-ai__deepseek-moe-16b-base": ("deepseek", sizes(28, 2048, 16, 16)),
    "MiniMaxAI__MiniMax-M2": ("minimax-m2", sizes(62, 3072, 48, 8, 128)),
    "zai-org__GLM-4.5": ("glm4moe", sizes(93, 5120, 96, 8, 128, nextn_predict_layers=1)),
    "deepseek-ai__DeepSeek-V2-Lite": ("deepseek2", latent(27, 2048, 16, 128, 128)),
    "deepseek-ai__DeepSeek-V3": ("deepseek2", latent(61, 7168, 128, 128, 128)),
    "zai-org__GLM-5": (
        "glm-dsa",
        latent(79, 6144, 64, 192, 256, nextn_predict_layers=1, context_length=202752,
               attention__indexer__key_length=128, attention__indexer__top_k=2048),
    ),
    "LiquidAI__LFM2-1.2B": (
        "lfm2",
        sizes(16, 2048, 32, [8 if i in (2, 5, 8, 10, 12, 14) else 0 for i in range(16)], shortconv__l_cache=3),
    ),
    "Qwen__Qwen3-Next-80B-A3B-Instruct": (
        "qwen3next", sizes(48, 2048, 16, 2, 256, **DELTA, ssm__time_step_rank=32, ssm__inner_size=4096)
    ),
    "Qwen__Qwen3.5-27B": (
        "qwen35", sizes(64, 5120, 24, 4, 256, **DELTA, ssm__time_step_rank=48, ssm__inner_size=6144)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_header_gives_the_layers_of_the_published_config(name: str) -> None:
    arch, fields = PUBLISHED[name]
    config = load_config(CONFIGS / f"{name}.json")
    published, read = spec_from_config(config), spec_from_config(of(arch, fields))
    assert read.layers == published.layers
    if not {"text_config", "thinker_config"} & config.keys():
        assert published.hidden_size in (None, read.hidden_size)
    if "context_length" in fields:
        assert read.max_context == published.max_context
    assert any(f"architecture {arch}," in note for note in read.notes)
    assert not [note for note in read.notes if "class default" in note]


def kinds(arch: str, fields: dict[str, Any]) -> str:
    return "".join(layer.kind.value[0] for layer in spec_from_config(of(arch, fields)).layers)


def test_windows_follow_the_file_then_the_architecture() -> None:
    base = sizes(6, 308, 14, 7, 22)
    swa = {"attention.sliding_window": 13}
    pattern = "attention.sliding_window_pattern"
    assert kinds("gemma3", base) == "ffffff"
    assert kinds("gemma3", {**base, **swa}) == "sssssf"
    assert kinds("gemma3", {**base, **swa, pattern: 3}) == "ssfssf"
    assert kinds("gemma3", {**base, **swa, pattern: [True, False, False, True, True, False]}) == "sffssf"
    assert kinds("gemma2", base) == "sfsfsf"  # 4096, llama.cpp's own
    assert kinds("cohere2moe", {**base, **swa, "block_count": 5}) == "fsssf"
    assert kinds("llama4", base) == "cccfcc"
    assert kinds("llama4", {**base, "attention.sliding_window": 0}) == "ffffff"
    assert kinds("exaone4", {**base, **swa}) == "ffffff"  # only one of 64 layers has windows
    assert kinds("exaone4", {**base, "block_count": 64})[:5] == "sssfs"
    assert kinds("smallthinker", {**base, **swa}) == "fsssfs"
    assert kinds("llama", {**base, **swa}) == "ffffff"
    notes = spec_from_config(of("llama", {**base, **swa})).notes
    assert any("sliding_window = 13 is stated" in note for note in notes)
    assert any("no window" in note for note in spec_from_config(of("starcoder2", base)).notes)
    with pytest.raises(ValueError, match=r"gpt-oss\.attention\.sliding_window is missing"):
        kinds("gpt-oss", base)
    with pytest.raises(ValueError, match=r"step35\.attention\.sliding_window_pattern must be a list"):
        kinds("step35", {**base, **swa})


def test_layers_that_differ_are_read_one_by_one() -> None:
    """Nemotron-NAS has layers without attention, MiMo-V2 windows with heads of their own, OpenELM growing ones."""
    pruned = spec_from_config(of("deci", sizes(3, 308, [14, 0, 14], [7, 0, 2], 22)))
    assert [(layer.kind, layer.n_kv_heads) for layer in pruned.layers] == [
        (Kind.FULL, 7),
        (Kind.NONE, 0),
        (Kind.FULL, 2),
    ]
    fields = sizes(2, 308, 14, [7, 2], 26, **window(13, [True, False]))
    fields |= {"attention.value_length": 22, "attention.key_length_swa": 34}
    sliding, full = spec_from_config(of("mimo2", fields)).layers
    assert (sliding.kind, sliding.n_kv_heads, sliding.k_head_dim, sliding.v_head_dim) == (Kind.SLIDING, 7, 34, 22)
    assert (full.kind, full.n_kv_heads, full.k_head_dim, full.v_head_dim) == (Kind.FULL, 2, 26, 22)
    uneven = spec_from_config(of("llama", sizes(2, 308, 14, [7, 2], 22)))
    assert [layer.n_kv_heads for layer in uneven.layers] == [7, 2]


def test_an_older_deepseek_is_counted_as_its_latent_and_says_so() -> None:
    fields = sizes(27, 2048, 16, 16, rope__dimension_count=64, attention__kv_lora_rank=512)
    fields |= {"attention.key_length": 192, "attention.value_length": 128}
    spec = spec_from_config(of("deepseek2", fields))
    assert spec.layers == spec_from_config(of("deepseek2", latent(27, 2048, 16, 128, 128))).layers
    assert any("5,120 elements" in note for note in spec.notes)


def test_every_architecture_is_read_or_refused_with_a_reason() -> None:
    read = {*gguf_types.TYPES, *gguf_types.BY_LAYER, *gguf_types.LATENT, *gguf_types.CONVOLVED, *gguf_types.DELTA}
    assert not read & set(gguf_types.REFUSED)
    assert set(WINDOWS) <= read
    assert len(read | set(gguf_types.REFUSED)) == 153  # names in llama.cpp's LLM_ARCH_NAMES, autumn 2026
    plain = {**sizes(6, 308, 14, 14, 22), "attention.sliding_window": 13}
    plain["attention.sliding_window_pattern"] = [True, True, False] * 2
    for arch in sorted(read - set(gguf_types.LATENT) - set(gguf_types.CONVOLVED) - set(gguf_types.DELTA)):
        spec = spec_from_config(of(arch, plain))
        assert spec.n_layers == 6, arch
        assert all(layer.n_kv_heads == 14 and layer.k_head_dim == 22 for layer in spec.layers), arch
    for arch, reason in gguf_types.REFUSED.items():
        with pytest.raises(ValueError, match=arch) as refusal:
            spec_from_config(of(arch, plain))
        assert reason in str(refusal.value)
    with pytest.raises(ValueError, match=r"general\.architecture 'llama9' is not known"):
        spec_from_config(of("llama9", plain))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"llama.block_count": None}, r"llama\.block_count is missing"),
        ({"llama.block_count": 2**40}, r"llama\.block_count must be between 1 and 10,000"),
        ({"llama.attention.head_count": "14"}, r"llama\.attention\.head_count"),
        ({"llama.attention.head_count": [14]}, "entry for each of the 3 layers, got 1"),
        ({"llama.attention.head_count_kv": 5}, "does not divide"),
        ({"llama.attention.key_length": None, "llama.embedding_length": 311}, "key_length is missing"),
        ({"llama.nextn_predict_layers": 3}, r"nextn_predict_layers = 3 leaves none"),
        ({"llama.attention.causal": False}, r"attention\.causal = false"),
        ({"llama.attention.shared_kv_layers": 1}, r"shared_kv_layers is stated"),
        ({"general.type": "adapter"}, r"general\.type = 'adapter'"),
        ({"general.type": "mmproj"}, r"general\.type = 'mmproj'"),
        ({"split.count": 3}, r"split\.count = 3"),
        ({"general.architecture": 7}, r"general\.architecture must be a short text"),
    ],
)
def test_headers_that_do_not_fit_are_refused(change: dict[str, Any], named: str) -> None:
    keys = {**of("llama", sizes(3, 308, 14, 7, 22)), **change}
    with pytest.raises(ValueError, match=named):
        spec_from_config({key: value for key, value in keys.items() if value is not None})


def test_parameters_are_counted_from_the_tensors_shapes(tmp_path: Path) -> None:
    keys = of("qwen3moe", sizes(2, 14, 2, 1, 6, nextn_predict_layers=1, expert_count=3, expert_used_count=2))
    path = tmp_path / "m.gguf"
    path.write_bytes(header(keys, {
        "token_embd.weight": (14, 31), "output.weight": (14, 31), "rope_freqs.weight": (97,),
        "blk.0.attn_q.weight": (14, 12), "blk.0.ffn_up_exps.weight": (14, 5, 3), "blk.1.attn_q.weight": (14, 1000),
    }))  # fmt: skip
    weights = resolve(str(path)).weights
    assert weights is not None
    assert weights.total == 2 * 14 * 31 + 14 * 12 + 14 * 5 * 3
    assert (weights.looked_up, weights.rows, weights.routed) == (14 * 31, 14, (Routed(1, 3, 2, 70),))


def test_the_weights_of_the_models_own_code_are_stated_too() -> None:
    """SmolLM2-135M: with the sizes that its class assumes it would have 634 M parameters."""
    keys = of("llama", sizes(30, 576, 9, 3, feed_forward_length=1536, vocab_size=49152))
    keys[gguf_header.TENSORS] = {"token_embd": 576 * 49152}
    part, _, _ = decoder_part(keys)
    counted = parameter_rules.count(spec_from_config(keys), part)
    assert counted is not None
    assert counted.total == 134_515_008


def test_kv_and_fit_take_a_file_and_say_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    tensors = {"token_embd.weight": (308, 101), "blk.0.attn_q.weight": (308, 308)}
    path.write_bytes(header(of("llama", sizes(3, 308, 14, 7)), tensors) + b"\0" * 1000)
    for command in (kv, fit):
        parser = ArgumentParser()
        command.configure(parser)
        assert command.run(parser.parse_args([str(path), "--context", "61"])) == 0
        shown = capsys.readouterr().out
        assert "read as the header of a GGUF file of architecture llama" in shown
        assert "fp16 is counted" in shown
        assert "dtype the model states" not in shown
    assert sequence_bytes(resolve(str(path)), 61) == 61 * 3 * 2 * 7 * 22 * 2
    assert gguf_header.CACHE in resolve(str(path)).notes
    with pytest.raises(ValueError, match=r"from a path that ends in \.gguf"):
        load_config(path.read_bytes())


def test_a_header_as_json_is_held_to_the_same_bounds() -> None:
    """Tools print a header as JSON. Our own key may then come from anybody."""
    keys = of("llama", sizes(3, 308, 14, 7, 22))
    for tensors in ({"token_embd": "x"}, {"token_embd": -5}, {"token_embd": 2**60}):
        spec = spec_from_config({**keys, gguf_header.TENSORS: tensors})
        assert spec.n_parameters is None
        assert any("parameters not counted: gguf.tensors.token_embd" in note for note in spec.notes)


WEIRD = [
    0,
    1,
    5,
    2**40,
    2**64 - 1,
    -1,
    0.5,
    float("nan"),
    True,
    "",
    "7",
    "x" * 5000,
    [],
    [0],
    [1] * 99,
    [0.5] * 99,
    [-1],
]
OF_EACH_KIND = (
    *("google__gemma-4-26B-A4B", "zai-org__GLM-5", "LiquidAI__LFM2-1.2B", "tiiuae__falcon-40b"),
    *("Qwen__Qwen3-Next-80B-A3B-Instruct", "openai__gpt-oss-120b", "google__gemma-3n-E2B-it"),
)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_any_value_of_any_key_is_answered_or_refused(name: str) -> None:
    keys = {**of(*PUBLISHED[name]), "general.type": "model", "split.count": 1, "tokenizer.ggml.tokens": 7}
    arch = PUBLISHED[name][0]
    for more in (
        "attention.sliding_window_pattern",
        "feed_forward_length",
        "expert_count",
        "attention.shared_kv_layers",
    ):
        keys.setdefault(f"{arch}.{more}", None)
    for key in keys:
        for value in WEIRD:
            changed = {k: v for k, v in {**keys, key: value}.items() if v is not None}
            with contextlib.suppress(ValueError):
                assert spec_from_config(changed).n_layers >= 1
