"""The tiny models: reproducible to the bit, as good as recorded, and equal in PyTorch, NumPy and transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attention.tiny import train
from attention.tiny.config import DATA, MODELS, TinyConfig
from attention.tiny.corpus import (
    Corpus,
    SourceFile,
    load_corpus,
    windows,
)
from attention.tiny.model import TinyLM, initialised, loss
from attention.tiny.numpy_forward import load_named, load_weights, maps
from tests.long import long, short

SMALL = TinyConfig(n_kv_heads=3, n_heads=6, head_dim=10, n_layers=2, ffn_dim=23, max_context=37)
TEXT = b"def area(width, height):\n    return width * height\n"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


ON_LITTLE_TEXT = """
import sys
from attention import cli
from attention.tiny import corpus
files = corpus.load_corpus().files
held_out, rest = ([f for f in files if f.held_out is out] for out in (True, False))
corpus.load_corpus = lambda: corpus.Corpus((held_out[0], *rest[:40]))
sys.exit(cli.main(sys.argv[1:]))
"""


@long("tests/tiny/test_uptraining.py, of a run that goes on from a seed")
@pytest.mark.slow
def test_training_is_reproducible_to_the_bit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_LITTLE_TEXT, "tiny", "train", "--n-kv-heads", "2", "--steps", "2", "--out"]
    runs = [subprocess.Popen([*command, str(tmp_path / n)], stdout=subprocess.DEVNULL) for n in ("first", "second")]
    assert [run.wait(200) for run in runs] == [0, 0]
    first, second = (tmp_path / n / "gqa.safetensors" for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    fresh = initialised(TinyConfig(n_kv_heads=2), train.Recipe().seed).half()
    trained = load_file(first)
    assert not any(torch.equal(trained[name], value) for name, value in fresh.state_dict().items() if value.ndim == 2)


def test_another_seed_gives_another_model() -> None:
    one, two, again = (initialised(SMALL, seed).state_dict() for seed in (1, 2, 1))
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert not torch.equal(one["model.embed_tokens.weight"], two["model.embed_tokens.weight"])


@pytest.mark.parametrize("name", short(list(MODELS), ["mha", "mqa"]))
def test_shipped_weights_give_the_shipped_validation_loss(name: str, corpus: Corpus) -> None:
    record = json.loads((DATA / f"{name}.json").read_text())
    model = train.load(DATA / f"{name}.safetensors")
    here = {f.sha256: f for f in corpus.held_out}
    # another Python release has other text: its unchanged held-out files must still give the recorded loss
    known = [f for f in record["validation"]["files"] if f["sha256"] in here]
    if not known:
        pytest.skip("no held-out file of this Python release is one of those recorded")
    for recorded in sorted(known, key=lambda f: (f["n_windows"] < 10, f["n_windows"]))[:3]:
        rows = torch.from_numpy(windows(here[recorded["sha256"]].text, 256).astype(np.int64))
        # float32 sums in another order, on another processor, differ at the sixth digit
        assert train.mean_loss(model, rows) == pytest.approx(recorded["loss"], rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_record_is_whole(name: str) -> None:
    record = json.loads((DATA / f"{name}.json").read_text())
    files = record["validation"]["files"]
    total = sum(f["loss"] * f["n_windows"] for f in files) / sum(f["n_windows"] for f in files)
    assert record["validation"]["loss"] == pytest.approx(total)
    assert record["config"]["n_kv_heads"] == MODELS[name]
    assert record["curve"][-1]["step"] == record["recipe"]["steps"]
    assert record["n_parameters"] == sum(v.numel() for v in load_file(DATA / f"{name}.safetensors").values())
    # bytes of ASCII text drawn evenly would cost ln 96 = 4.6 nats; the models must have learnt much more than that
    assert record["validation"]["loss"] < 1.5


def test_they_were_trained_alike() -> None:
    records = [json.loads((DATA / f"{name}.json").read_text()) for name in MODELS]
    assert all(r["recipe"] == records[0]["recipe"] for r in records)
    assert len({r["corpus"]["sha256"] for r in records}) == 1
    others = [{k: v for k, v in r["config"].items() if k != "n_kv_heads"} for r in records]
    assert others == [others[0]] * len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_numpy_computes_what_torch_computes(name: str) -> None:
    found = maps(load_named(name), TEXT)
    model = train.load(DATA / f"{name}.safetensors")
    with torch.no_grad():
        expected = model(torch.tensor([list(TEXT)])).log_softmax(-1)[0].numpy()
    # four layers of float32 sums in two orders
    assert np.abs(found.log_probabilities - expected).max() < 2e-4


def test_maps_are_attention() -> None:
    attention = maps(load_named("gqa"), TEXT).attention
    assert attention.shape == (4, 8, len(TEXT), len(TEXT))
    assert np.allclose(attention.sum(-1), 1, atol=1e-5)
    assert (np.triu(attention, 1) == 0).all()


def test_maps_are_those_of_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    from attention import layers

    seen: list[np.ndarray] = []

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q.double() @ k.double().unsqueeze(2).mT * q.shape[-1] ** -0.5
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        seen.append(scores.flatten(1, 2)[0].numpy())
        return attend(q, k, v)

    attend = layers.attend
    monkeypatch.setattr(layers, "attend", spy)
    with torch.no_grad():
        train.load(DATA / "gqa.safetensors")(torch.tensor([list(TEXT)]))
    assert np.abs(np.stack(seen) - maps(load_named("gqa"), TEXT).attention).max() < 1e-4


def test_transformers_reads_the_model_as_llama() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = train.load(DATA / "gqa.safetensors")
    settings = {k: v for k, v in model.config.to_llama().items() if k not in ("architectures", "torch_dtype")}
    peer = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    missing = peer.load_state_dict(model.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys == ["lm_head.weight"]
    tokens = torch.tensor([list(TEXT)])
    with torch.no_grad():
        # float32 sums in two orders
        assert torch.allclose(peer(tokens).logits, model(tokens), atol=2e-4)


def test_training_lowers_the_loss_and_can_be_stopped() -> None:
    threads = torch.get_num_threads()
    files = [SourceFile(f"{i}.py", TEXT * 40, i == 1) for i in range(3)]
    recipe = train.Recipe(steps=30, batch=5, warmup=3, eval_every=10, threads=1)
    try:
        trained = train.train(SMALL, recipe, Corpus(tuple(files)))
        stopped = train.train(SMALL, recipe, Corpus(tuple(files)), should_stop=lambda: True)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    assert [step for step, _, _ in trained.curve] == [10, 20, 30]
    assert trained.curve[-1][2] < 0.8 * trained.curve[0][2]
    assert stopped.curve == ()


def test_loss_counts_every_byte_once() -> None:
    model = initialised(SMALL, 7)
    rows = torch.randint(0, 256, (3, 12))
    logits = model(rows[:, :-1]).detach().double()
    by_hand = -logits.log_softmax(-1).gather(-1, rows[:, 1:, None]).mean()
    # float32 against float64
    assert float(loss(model, rows).detach()) == pytest.approx(float(by_hand), rel=1e-5)


def test_held_out_files_are_not_trained_on(corpus: Corpus) -> None:
    stream = corpus.train_stream().tobytes()
    assert 0.01 < sum(len(f.text) for f in corpus.held_out) / len(stream) < 0.2
    for file in corpus.held_out:
        if len(file.text) > 2_000:
            assert file.text[1_000:1_400] not in stream, file.name
    names = [f.name for f in corpus.files]
    assert names == sorted(names)
    assert not any(n.startswith(("test/", "idlelib/", "site-packages/")) for n in names)


def test_windows_predict_every_byte_once() -> None:
    text = bytes(range(23))
    rows = windows(text, 7)
    assert rows.shape == (3, 8)
    assert rows[:, 1:].ravel().tolist() == list(range(1, 22))
    assert windows(b"abc", 7).shape == (0, 8)


@pytest.mark.parametrize(
    ("field", "value"), [("n_kv_heads", 5), ("n_kv_heads", 0), ("head_dim", 7), ("n_layers", -1), ("ffn_dim", "9")]
)
def test_impossible_sizes_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        TinyConfig(**{field: value})


def test_missing_or_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tiny model"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "bad.json").write_text(json.dumps({"config": TinyConfig().to_json()}))
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    for load in (load_weights, train.load):
        with pytest.raises(ValueError, match="no tiny model"):
            load(tmp_path / "bad.safetensors")
    (tmp_path / "other.json").write_text(json.dumps({"config": TinyConfig(n_kv_heads=4).to_json()}))
    (tmp_path / "other.safetensors").write_bytes((DATA / "gqa.safetensors").read_bytes())
    for load in (load_weights, train.load):
        with pytest.raises(ValueError, match=r"shape|no tiny model"):
            load(tmp_path / "other.safetensors")


def test_an_empty_folder_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Python source"):
        load_corpus(tmp_path)


def test_unknown_model_is_refused_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from attention.cli import main

    assert main(["tiny", "eval", "nothing"]) == 2
    assert "no tiny model" in capsys.readouterr().err
    assert main(["tiny", "train", "--n-kv-heads", "3"]) == 2
    assert "must divide" in capsys.readouterr().err


def test_model_is_small() -> None:
    sizes = [(DATA / f"{name}.safetensors").stat().st_size for name in MODELS]
    assert max(sizes) < 3_000_000
    assert isinstance(initialised(SMALL, 1), TinyLM)
