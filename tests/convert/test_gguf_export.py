"""Exported GGUF files: transformers reads the same model from them, and llama.cpp computes the same as transformers."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM

from attention.cli import main
from attention.convert import checkpoint as ckpt
from attention.convert.gguf_export import export, neighbours
from attention.convert.gguf_vocabulary import byte_words
from attention.convert.refine import Settings
from attention.convert.run import convert
from attention.convert.streamed import Calibration
from tests.long import short

pytest.importorskip("gguf", reason="pip install -r requirements-engines.txt")
LLAMA_CPP = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp's wheel is not installed"
)

IDS = [int(b) for b in b"heads of a cache"]
SIZES: dict[str, Any] = {
    "vocab_size": 261, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 128, "initializer_range": 0.2, "bos_token_id": 257,
    "eos_token_id": 258,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tied, biases": ("llama", {"head_dim": 32, "attention_bias": True, "tie_word_embeddings": True}),
    "llama3": ("llama", {"head_dim": 32, "mlp_bias": True, "rope_parameters": LLAMA3}),
    "linear": ("mistral", {"head_dim": 32, "sliding_window": None,
                           "rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}}),
    "qwen2": ("qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", {"head_dim": 32}),
}  # fmt: skip


def model_of(name: str, **changes: Any) -> Any:
    """A model with random biases whose likeliest tokens are ASCII: llama.cpp holds back half of a character."""
    family, fields = CASES[name]
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **fields, **changes)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.3)
        model.lm_head.weight[128:] = 0
    return model


def logits(model: Any, ids: list[int] = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0].double()
    return found


ASK = """
import json, os, sys
import xllamacpp as x
for path, prompt in json.loads(sys.argv[1]):
    p = x.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.warmup = path, 128, 1, False
    p.n_gpu_layers = p.verbosity = 0
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
    said = x.Server(p).handle_completions({"prompt": prompt, "n_predict": 5, "temperature": 0, "n_probs": 7,
                                           "stream": False, "add_special": False})
    print("SAID", said if isinstance(said, str) else json.dumps(said), flush=True)
os._exit(0)
"""


def llama_cpp(*asked: tuple[Path, list[int] | str]) -> list[dict[str, Any]]:
    """llama.cpp's answer to each prompt, always its likeliest token, with the log probabilities of each token."""
    given = json.dumps([(str(path), prompt) for path, prompt in asked])
    done = subprocess.run([sys.executable, "-c", ASK, given], capture_output=True, text=True, timeout=200)
    said = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert len(said) == len(asked), done.stderr[-2000:]
    return said


def as_transformers(model: Any, said: dict[str, Any], ids: list[int] = IDS, atol: float = 0.03) -> None:
    """llama.cpp's tokens are the model's likeliest, and its probabilities the model's.

    `atol`: its attention and products round to half precision on the way, and to bf16 where weights are.
    """
    content = said["choices"][0]["logprobs"]["content"]
    assert len(content) == 5
    ids = list(ids)
    for token in content:
        expected = torch.log_softmax(logits(model, ids)[-1], -1)
        assert token["id"] == int(expected.argmax())
        for likely in token["top_logprobs"]:
            assert likely["logprob"] == pytest.approx(float(expected[likely["id"]]), abs=atol)
        ids.append(token["id"])


@LLAMA_CPP
def test_llama_cpp_computes_what_transformers_does(tmp_path: Path) -> None:
    names = short(list(CASES), ["tied, biases", "llama3", "qwen2"])
    for name in names:
        model_of(name).save_pretrained(tmp_path / name)
        done = export(tmp_path / name, tmp_path / f"{name}.gguf")
        assert (done.type, done.n_kv_heads, done.vocabulary) == ("f32", 3, "256 bytes")
    said = llama_cpp(*((tmp_path / f"{name}.gguf", IDS) for name in names))
    for name, answer in zip(names, said, strict=True):
        as_transformers(model_of(name), answer)


def test_transformers_reads_back_what_was_exported(tmp_path: Path) -> None:
    model = model_of("tied, biases", attention_dropout=0.0)
    model.save_pretrained(tmp_path / "model", max_shard_size="60KB")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    export(tmp_path / "model", tmp_path / "out" / "model.gguf")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.gguf"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    read = load_gguf_checkpoint(tmp_path / "out" / "model.gguf", return_tensors=False)["config"]
    expected = {"num_key_value_heads": 3, "num_attention_heads": 6, "head_dim": 32, "rope_theta": 10000.0,
                "intermediate_size": 64, "hidden_size": 96, "num_hidden_layers": 2, "vocab_size": 261}  # fmt: skip
    assert {name: read[name] for name in expected} == expected
    import gguf

    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    state = model.state_dict()
    assert "output.weight" not in tensors  # the embedding serves as the output head
    for name, n_heads in (("q", 6), ("k", 3)):
        weight = state[f"model.layers.1.self_attn.{name}_proj.weight"].numpy()
        # llama.cpp's rotary embedding turns rows 2j and 2j + 1 of a head, transformers' j and j + 16
        pairs = weight.reshape(n_heads, 2, 16, 96)
        stored = tensors[f"blk.1.attn_{name}.weight"].data.reshape(n_heads, 16, 2, 96)
        for half in (0, 1):
            assert (stored[:, :, half] == pairs[:, half]).all()
    assert (tensors["blk.1.attn_v.weight"].data == state["model.layers.1.self_attn.v_proj.weight"].numpy()).all()


def test_rows_that_stand_beside_each_other() -> None:
    assert neighbours(torch.arange(12), 2).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@LLAMA_CPP
def test_a_converted_checkpoint_is_served_by_llama_cpp(tmp_path: Path) -> None:
    """Heads merged by calibration, regrouped and unlike one another, in bf16, with a tokenizer: llama.cpp cuts the text
    into the same tokens."""
    text = "heads of a cache share keys, values and 1024 queries: it's theirs\n\n  if they're grouped 7 by 7.\n"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text] * 3, trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False))  # fmt: skip
    n = tokenizer.get_vocab_size()
    family, fields = CASES["llama3"]
    torch.manual_seed(5)
    sizes = {**SIZES, "vocab_size": n + 3, "num_key_value_heads": 6, "bos_token_id": 0, "eos_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes, **fields))
    with torch.no_grad():
        for word, token in tokenizer.get_vocab().items():
            if not word.isascii() or token == 0:
                model.lm_head.weight[token] = 0
        model.lm_head.weight[n:] = 0
    model.to(torch.bfloat16).save_pretrained(tmp_path / "source")
    tokenizer.save(str(tmp_path / "source" / "tokenizer.json"))
    tokens = torch.randint(0, n, (6, 24), generator=torch.Generator().manual_seed(1))
    given = Calibration(tokens, "random tokens", Settings(refine_steps=0))
    convert(tmp_path / "source", tmp_path / "converted", 2, "calibrated", calibration=given)
    assert main(["export", str(tmp_path / "converted"), str(tmp_path / "converted.gguf")]) == 0
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "converted", dtype=torch.float32).eval()
    ids = tokenizer.encode(text).ids
    assert len(ids) < 0.7 * len(text)  # so the tokenizer's merges were used
    (said,) = llama_cpp((tmp_path / "converted.gguf", text))
    assert said["usage"]["prompt_tokens"] == len(ids)
    as_transformers(converted, said, ids, atol=0.2)


def test_bytes_are_written_as_byte_level_bpe_does() -> None:
    words = byte_words()
    assert len(set(words)) == 256
    assert set(words) == set(pre_tokenizers.ByteLevel.alphabet())
    for text in ("key é\n", "値\t\0"):
        (found,) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert [words.index(c) for c in found[0]] == list(text.encode())


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    model_of("linear").save_pretrained(folder)
    return folder


WORD_LEVEL = {"model": {"type": "WordLevel", "vocab": {"a": 0}}}
BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gemma2"}, "gemma2'? is not exported to GGUF, only llama, mistral, qwen2, qwen3"),
        ({"sliding_window": 64}, "sliding_window 64 is not exported"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn' is not exported"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "two"}}, "factor must be a positive number, got 'two'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "llama3 cannot be read"),
        ({"rope_parameters": [1]}, "rope_parameters must be an object"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1, got 0.5"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu, got 'gelu'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be"),
        ({"num_hidden_layers": 3}, "lacks what becomes blk.2.attn_k.weight"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a small positive number"),
        ({"vocab_size": 255}, "its vocabulary of 255 cannot hold bytes"),
        (WORD_LEVEL, "a tokenizer of type WordLevel is not exported"),
        ({"model": BPE, "pre_tokenizer": {"type": "Whitespace"}}, "parts words by Whitespace in a way"),
        ({"model": BPE, "pre_tokenizer": BYTES, "normalizer": {"type": "Lowercase"}}, "with the normalizer Lowercase"),
        ({"model": {**BPE, "merges": []}, "pre_tokenizer": BYTES}, "has no merges"),
        ({"model": {**BPE, "vocab": {"a": 261}}, "pre_tokenizer": BYTES}, "has token 261, the model's"),
        ({"model": {"type": "BPE"}, "pre_tokenizer": BYTES}, "tokenizer.json cannot be read"),
        ({"tokenizer.model": ""}, "has tokenizer.model and no tokenizer.json"),
    ],
)  # fmt: skip
def test_what_is_not_exported(changes: dict[str, Any], match: str, plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    if "model" in changes:
        (folder / "tokenizer.json").write_text(json.dumps(changes))
    elif "tokenizer.model" in changes:
        (folder / "tokenizer.model").write_bytes(b"")
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=match):
        export(folder, tmp_path / "model.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_values_targets_and_disks(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture) -> None:  # fmt: skip
    model = model_of("linear")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 5] = 70_000.0
    model.save_pretrained(tmp_path / "large")
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.up_proj.* holds NaN, infinity or values too large for f16"):
        export(tmp_path / "large", tmp_path / "model.gguf", "f16")
    with pytest.raises(ValueError, match="type of a GGUF file's weights must be one of f32, f16, bf16, got 'q4_0'"):
        export(plain, tmp_path / "model.gguf", "q4_0")
    (tmp_path / "mine.gguf").write_text("mine")
    with pytest.raises(ValueError, match=r"mine\.gguf exists"):
        export(plain, tmp_path / "mine.gguf")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ckpt, "read_elements", full)
    assert main(["export", str(plain), str(tmp_path / "model.gguf")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"large", "mine.gguf"}
    assert (tmp_path / "mine.gguf").read_text() == "mine"
