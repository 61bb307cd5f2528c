"""Uptraining: the loss falls, a resumed run equals an uninterrupted one, and two processes compute what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from attention.convert.run import convert
from attention.uptrain.data import cut, load_tokenizer, token_ids
from attention.uptrain.run import uptrain
from attention.uptrain.settings import Settings
from tests.long import long
from tests.torch_threads import torch_threads

STEPS = 8
SETTINGS = Settings(steps=STEPS, batch=4, seq_len=23, lr=3e-3, warmup=2, schedule="cosine", seed=5, eval_share=0.1)


def save_pair(folder: Path, **more: Any) -> None:
    """Write a byte-level MHA model with tied embeddings into ``mha``, and into ``gqa`` the same with two K/V heads."""
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=257, hidden_size=36, intermediate_size=53, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=6, tie_word_embeddings=True, max_position_embeddings=61, **more,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "mha")
    convert(folder / "mha", folder / "gqa", 2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uptrain")
    save_pair(folder)
    return folder / "gqa"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Text with something to learn: few words, in random order."""
    words = np.random.default_rng(7).choice(["head ", "cache ", "key ", "value ", "query\n"], 600)
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("".join(words))
    return [path]


class Log(list[dict[str, Any]]):
    def __call__(self, event: dict[str, Any]) -> None:
        self.append(event)

    @property
    def losses(self) -> dict[int, float]:
        return {e["step"]: e["loss"] for e in self if "loss" in e}

    @property
    def evaluations(self) -> dict[int, float]:
        return {e["step"]: e["eval_loss"] for e in self if "eval_loss" in e}


@pytest.fixture(scope="module")
def whole(source: Path, data: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    """A run without interruption, which others are compared with."""
    target, log = tmp_path_factory.mktemp("whole") / "result", Log()
    with torch_threads(1):
        uptrain(source, data, target, SETTINGS, on_event=log)
    return target, log


def difference(a: Path, b: Path) -> float:
    one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == two.keys()
    return max(float((one[n].float() - two[n].float()).abs().max()) for n in one)


def test_loss_falls_and_the_result_loads(whole: tuple[Path, Log], source: Path) -> None:
    target, log = whole
    assert list(log.losses) == list(range(1, STEPS + 1))
    before, after = log.evaluations[0], log.evaluations[STEPS]
    # an untrained model of 257 tokens starts at about ln 257 = 5.5 nats
    assert before == pytest.approx(np.log(257), rel=0.05)
    assert after < before - 0.5
    model, info = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(info.values())
    assert model.config.num_key_value_heads == 2
    assert (target / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert sorted(p.name for p in target.iterdir()) == ["config.json", "generation_config.json", "model.safetensors"]
    assert difference(source, target) > 1e-3


def test_reported_loss_is_the_models_own(whole: tuple[Path, Log], data: list[Path]) -> None:
    target, log = whole
    model = AutoModelForCausalLM.from_pretrained(target).eval()
    ids = np.frombuffer(data[0].read_bytes(), np.uint8)
    n = len(ids) // 23
    held_out = torch.from_numpy(ids[: n * 23].reshape(n, 23)[-max(1, round(n * 0.1 / 4)) * 4 :].astype(np.int64))
    with torch.no_grad():
        logits = model(held_out).logits[:, :-1].double()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten())
    # float32 forward passes in batches of another size
    assert log.evaluations[STEPS] == pytest.approx(float(loss), rel=1e-5)


def test_resumed_run_is_the_uninterrupted_one(
    whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path
) -> None:
    target, log = tmp_path / "result", Log()
    summary = uptrain(source, data, target, SETTINGS, on_event=log, should_stop=lambda: len(log.losses) == 3)
    assert (summary["step"], summary["done"], summary["eval_loss"]) == (3, False, None)
    assert [p.name for p in (target / "training").iterdir()] == ["step-00000003"]
    assert not (target / "config.json").exists()
    with pytest.raises(ValueError, match="go on with --resume"):
        uptrain(source, data, target, SETTINGS)
    # stopped once more, so that a state saved by a resumed run is resumed too
    uptrain(source, data, target, SETTINGS, resume=True, on_event=log, should_stop=lambda: len(log.losses) == 5)
    uptrain(source, data, target, SETTINGS, resume=True, on_event=log)
    assert log.losses == whole[1].losses
    assert difference(target, whole[0]) == 0
    assert not (target / "training").exists()


def test_accumulation_changes_nothing(whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path) -> None:
    log = Log()
    settings = Settings(**{**_fields(SETTINGS), "grad_accum": 2})
    uptrain(source, data, tmp_path / "result", settings, on_event=log)
    # the same gradients, summed in float32 in another order
    assert log.losses == pytest.approx(whole[1].losses, rel=1e-5)


def test_bf16_and_recomputed_activations(
    whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path
) -> None:
    log = Log()
    settings = Settings(**{**_fields(SETTINGS), "precision": "bf16", "checkpointing": True})
    uptrain(source, data, tmp_path / "result", settings, on_event=log)
    # bf16 keeps eight bits: close to the float32 run, and not the same
    assert log.losses == pytest.approx(whole[1].losses, rel=1e-2)
    assert log.losses != whole[1].losses


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


TORCHRUN = ("torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--nproc-per-node")
# port 0: one that is free
ACCELERATE = ("accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "--num_processes")  # fmt: skip


def launch(arguments: list[str], processes: int, launcher: tuple[str, ...] = TORCHRUN) -> Log:
    command = [sys.executable, "-m", *launcher, str(processes)]
    done = subprocess.run(
        [*command, "--module" if launcher is ACCELERATE else "-m", "attention", "uptrain", *arguments, "--json"],
        capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Log(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def arguments(source: Path, data: list[Path], target: Path) -> list[str]:
    return [str(source), "--data", *map(str, data), "--output", str(target), "--alpha-steps", str(STEPS),
            "--batch", "4", "--seq-len", "23", "--lr", "3e-3", "--warmup", "2", "--schedule", "cosine", "--seed", "5",
            "--eval-share", "0.1"]  # fmt: skip


@long("a run that is stopped and goes on")
def test_two_processes_compute_what_one_does(
    whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path
) -> None:
    """Weights sharded over two processes that exchange gradients, states saved on the way."""
    log = launch([*arguments(source, data, tmp_path / "result"), "--save-every", "3"], 2)
    # float32 sums in another order, through eight steps of AdamW
    assert log.losses == pytest.approx(whole[1].losses, rel=1e-5)
    assert log.evaluations == pytest.approx(whole[1].evaluations, rel=1e-5)
    assert difference(tmp_path / "result", whole[0]) < 1e-4


@long("a run that is stopped and goes on")
def test_accelerate_launch_starts_the_same_run(
    whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path
) -> None:
    # a single process would take a batch of 3, so this shows that there are two
    refused = subprocess.run(
        [sys.executable, "-m", *ACCELERATE, "2", "--module", "attention", "uptrain",
         *arguments(source, data, tmp_path / "odd"), "--batch", "3"],
        capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "multiple of 2 processes" in refused.stderr
    log = launch(arguments(source, data, tmp_path / "result"), 2, ACCELERATE)
    assert log.losses == pytest.approx(whole[1].losses, rel=1e-5)
    assert difference(tmp_path / "result", whole[0]) < 1e-4


@pytest.mark.slow
@long("a run that is stopped and goes on")
def test_one_process_goes_on_as_two(whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path) -> None:
    log = Log()
    target = tmp_path / "result"
    uptrain(source, data, target, SETTINGS, on_event=log, should_stop=lambda: len(log.losses) == 4)
    log += launch([*arguments(source, data, target), "--resume", "--grad-accum", "2"], 2)
    assert log.losses == pytest.approx(whole[1].losses, rel=1e-5)
    assert difference(target, whole[0]) < 1e-4


@long("stopping and going on without the command")
def test_command_stops_and_resumes(whole: tuple[Path, Log], source: Path, data: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attention", "uptrain", *arguments(source, data, tmp_path / "result"), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert '"eval_loss"' in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        lines, errors = child.communicate(timeout=100)
    stopped = json.loads(lines.splitlines()[-1])
    assert child.returncode == 130, errors
    assert not stopped["done"]
    assert 1 <= stopped["step"] < STEPS
    log = Log()
    uptrain(source, data, tmp_path / "result", SETTINGS, resume=True, on_event=log)
    assert min(log.losses) == stopped["step"] + 1
    assert log.losses == {s: loss for s, loss in whole[1].losses.items() if s > stopped["step"]}
    assert difference(tmp_path / "result", whole[0]) == 0


# --- data -------------------------------------------------------------------------------------------------------


def test_blocks_are_all_seen_once_per_epoch_and_never_held_out() -> None:
    blocks = cut(np.arange(17 * 5 + 3, dtype=np.uint32), 5, 2, 0.2, seed=3)
    assert blocks.held_out[:, 0].tolist() == [65, 70, 75, 80]  # 20 % of 17 blocks, in whole batches
    first = [row for step in range(13) for row in blocks.step(step, 2)[:, 0].tolist()]
    assert sorted(first[:13]) == sorted(first[13:]) == list(range(0, 65, 5))
    assert first[:13] != first[13:]
    again = cut(np.arange(17 * 5, dtype=np.uint32), 5, 2, 0.2, seed=3)
    assert torch.equal(again.step(7, 2), blocks.step(7, 2))
    assert not torch.equal(cut(np.arange(17 * 5), 5, 2, 0.2, seed=4).step(7, 2), blocks.step(7, 2))


def test_own_tokenizer(tmp_path: Path) -> None:
    words = {"[END]": 0, "head": 1, "cache": 2, "[UNK]": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[END]").save_pretrained(tmp_path / "model")
    (tmp_path / "a.txt").write_text("head cache\nhead")
    (tmp_path / "b.txt").write_text("cache moon")
    loaded = load_tokenizer(tmp_path / "model")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert token_ids(files, loaded, 4).tolist() == [1, 2, 1, 0, 2, 3, 0]
    with pytest.raises(ValueError, match="gives token 3, the model's vocabulary has 3"):
        token_ids(files, loaded, 3)
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        token_ids([tmp_path / "c.txt"], loaded, 4)
    assert token_ids([tmp_path / "c.txt"], None, 256).tolist() == [255, 254, 0]
    with pytest.raises(ValueError, match="cannot hold bytes"):
        token_ids(files, None, 255)
    with pytest.raises(ValueError, match="cannot read"):
        token_ids([tmp_path / "nothing"], None, 256)


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch", 0), ("seq_len", 1), ("lr", 0.0), ("lr", float("nan")), ("precision", "fp8"),
     ("schedule", "step"), ("eval_share", 1.0), ("weight_decay", -1.0), ("grad_accum", 1.5), ("warmup", -1)],
)  # fmt: skip
def test_bad_settings_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Settings(**{"steps": 3, field: value})


def test_bad_runs(source: Path, data: list[Path], tmp_path: Path, whole: tuple[Path, Log]) -> None:
    short = tmp_path / "short.txt"
    short.write_text("x" * 100)
    cases: list[tuple[str, Path, list[Path], Path, Settings, bool]] = [
        ("at least 8 are needed", source, [short], tmp_path / "r", SETTINGS, False),
        ("batch must be a multiple", source, data, tmp_path / "r", Settings(3, batch=4, grad_accum=3), False),
        ("is not a checkpoint", tmp_path, data, tmp_path / "r", SETTINGS, False),
        ("already holds a finished checkpoint", source, data, whole[0], SETTINGS, False),
        ("no state to resume from", source, data, tmp_path / "r", SETTINGS, True),
    ]
    for match, folder, files, target, settings, resume in cases:
        with pytest.raises(ValueError, match=match):
            uptrain(folder, files, target, settings, resume)
    assert not (tmp_path / "r").exists()


def test_damaged_or_foreign_state(source: Path, data: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "result"
    uptrain(source, data, target, SETTINGS, should_stop=lambda: True)
    with pytest.raises(ValueError, match=r"other settings: seed 5 → 6"):
        uptrain(source, data, target, Settings(**{**_fields(SETTINGS), "seed": 6}), resume=True)
    path = target / "training" / "step-00000001" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="step-00000001 is damaged"):
        uptrain(source, data, target, SETTINGS, resume=True)
