"""Distillation: the divergence is the textbook's, the run minimises what it reports, and other teachers are refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from attention.cli import main
from attention.uptrain.distillation import Distillation, divergence
from attention.uptrain.run import uptrain
from attention.uptrain.settings import Settings
from tests.long import long
from tests.uptrain.test_run import Log, arguments, difference, launch, save_pair

STEPS = 6
SETTINGS = Settings(steps=STEPS, batch=4, seq_len=23, lr=3e-3, seed=5, eval_share=0.1)
HALF = Distillation(share=0.75, temperature=2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level MHA model with clear preferences (its weights are large), its conversion, and text."""
    folder = tmp_path_factory.mktemp("distil")
    save_pair(folder, initializer_range=0.2)
    (folder / "words.txt").write_text("heads of a cache share their keys and values\n" * 90)
    return folder


def apart(one: Path, other: Path, temperature: float, rows: torch.Tensor) -> float:
    """The divergence of two models, summed by hand in float64 from the definition."""
    with torch.no_grad():
        p, q = (
            torch.softmax(AutoModelForCausalLM.from_pretrained(f).eval()(rows).logits.double() / temperature, -1)
            for f in (one, other)
        )
    return float((q * (q / p).log()).sum(-1).mean()) * temperature**2


def test_divergence_is_the_textbooks() -> None:
    student, teacher = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[math.log(3.0), 0.0]]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert math.isclose(float(divergence(student, teacher)), expected, rel_tol=1e-6)
    root = 3**0.5 / (1 + 3**0.5)  # odds of 3 : 1 at temperature 2
    soft = root * math.log(root / 0.5) + (1 - root) * math.log((1 - root) / 0.5)
    assert math.isclose(float(divergence(student, teacher, 2.0)), 4 * soft, rel_tol=1e-6)
    assert float(divergence(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-7)


def test_gradient_keeps_its_size_when_distributions_soften() -> None:
    """The factor of temperature squared is for this (Hinton et al., section 2): at a high temperature, and with logits
    of mean 0, the gradient tends to (student - teacher) / vocabulary."""
    torch.manual_seed(3)
    student, teacher = torch.randn(1, 5, 7).double(), torch.randn(1, 5, 7).double()
    student, teacher = (x - x.mean(-1, keepdim=True) for x in (student, teacher))
    student.requires_grad_(True)
    (found,) = torch.autograd.grad(divergence(student, teacher, 500.0), student)
    torch.testing.assert_close(found, (student - teacher) / 7 / 5, rtol=0.05, atol=1e-3)


def test_a_run_minimises_what_it_says_and_nears_its_teacher(folder: Path, tmp_path: Path) -> None:
    taught, alone = Log(), Log()
    data = [folder / "words.txt"]
    uptrain(folder / "gqa", data, tmp_path / "taught", SETTINGS, on_event=taught,
            teacher=folder / "mha", distillation=HALF)  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    uptrain(folder / "gqa", data, tmp_path / "alone", SETTINGS, on_event=alone)
    ids = torch.frombuffer(bytearray(data[0].read_bytes()), dtype=torch.uint8).long()
    rows = ids[: len(ids) // 23 * 23].view(-1, 23)
    # the first step's loss is that of the converted model on the step's own blocks, which only the seed decides
    first = next(event for event in taught if "loss" in event)
    assert first["loss"] == alone.losses[1]
    assert all("distilled_loss" in event for event in taught if "loss" in event)
    assert not any("distilled_loss" in event for event in alone)
    from attention.uptrain.data import cut

    blocks = cut(ids.numpy().astype("uint32"), 23, 4, 0.1, 5).step(0, 4)
    wanted = 0.25 * first["loss"] + 0.75 * apart(folder / "gqa", folder / "mha", 2.0, blocks)
    assert first["distilled_loss"] == pytest.approx(wanted, rel=1e-4)  # float32
    before, with_teacher, without = (
        apart(path, folder / "mha", 2.0, rows[-4:])
        for path in (folder / "gqa", tmp_path / "taught", tmp_path / "alone")
    )
    assert with_teacher < before
    assert with_teacher < without
    names = ["config.json", "generation_config.json", "model.safetensors"]
    assert sorted(p.name for p in (tmp_path / "taught").iterdir()) == names


def test_goes_on_with_the_same_teacher_alone(folder: Path, tmp_path: Path) -> None:
    log, data, target = Log(), [folder / "words.txt"], tmp_path / "result"

    def go(**options: Any) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        options = {"teacher": folder / "mha", "distillation": HALF, **options}
        uptrain(folder / "gqa", data, target, SETTINGS, on_event=log, **options)

    go(should_stop=lambda: len(log.losses) == 2)
    torch.manual_seed(4)
    other = LlamaForCausalLM.from_pretrained(folder / "mha")
    torch.nn.init.normal_(other.model.norm.weight)
    other.save_pretrained(tmp_path / "other")
    for match, options in (
        (r"teacher '.*' → '.*'", {"teacher": tmp_path / "other"}),
        (r"teacher '.*' → None", {"teacher": None, "distillation": None}),
        ("temperature 2.0 → 1.0", {"distillation": Distillation(0.75)}),
    ):
        with pytest.raises(ValueError, match=f"other settings: .*{match}"):
            go(resume=True, **options)
    go(resume=True)
    uptrain_whole = tmp_path / "whole"
    AcceleratorState._reset_state(reset_partial_state=True)
    uptrain(folder / "gqa", data, uptrain_whole, SETTINGS, teacher=folder / "mha", distillation=HALF)
    assert difference(target, uptrain_whole) == 0


@long("a run that is stopped and goes on")
def test_two_processes_compute_what_one_does(folder: Path, tmp_path: Path) -> None:
    one, data = Log(), [folder / "words.txt"]
    settings = Settings(steps=8, batch=4, seq_len=23, lr=3e-3, warmup=2, schedule="cosine", seed=5, eval_share=0.1)
    uptrain(folder / "gqa", data, tmp_path / "one", settings, on_event=one, teacher=folder / "mha", distillation=HALF)
    options = ["--distill", str(folder / "mha"), "--distill-share", "0.75", "--temperature", "2"]
    two = launch([*arguments(folder / "gqa", data, tmp_path / "two"), *options], 2)
    for name in ("loss", "distilled_loss"):
        # float32 sums in another order, through eight steps of AdamW
        assert [e[name] for e in two if name in e] == pytest.approx([e[name] for e in one if name in e], rel=1e-5)
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-4


@pytest.mark.parametrize(
    ("field", "value"),
    [("share", 0), ("share", 1.01), ("share", True), ("share", "most"), ("temperature", 0.0), ("temperature", math.inf),
     ("temperature", math.nan), ("share", math.nan)],
)  # fmt: skip
def test_bad_settings_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"distillation's {field} must be"):
        Distillation(**{field: value})


def test_foreign_teachers_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = LlamaConfig(vocab_size=259, hidden_size=36, intermediate_size=53, num_hidden_layers=1,
                         num_attention_heads=6, num_key_value_heads=6)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "wide")
    for name, words in (("one", {"a": 0, "b": 1}), ("other", {"b": 0, "a": 1})):
        shutil.copytree(folder / "gqa", tmp_path / name)
        content = {"model": {"type": "WordLevel", "vocab": words, "unk_token": "a"}, "added_tokens": [],
                   "pre_tokenizer": {"type": "Whitespace"}}  # fmt: skip
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content))
    data = [folder / "words.txt"]
    cases: list[tuple[str, Path, Path | None]] = [
        ("has a vocabulary of 259 tokens, .* one of 257", folder / "gqa", tmp_path / "wide"),
        ("has another tokenizer than", tmp_path / "one", tmp_path / "other"),
        ("is not a checkpoint", folder / "gqa", tmp_path),
        ("distillation needs a teacher", folder / "gqa", None),
    ]
    for match, source, teacher in cases:
        with pytest.raises(ValueError, match=match):
            uptrain(source, data, tmp_path / "r", SETTINGS, teacher=teacher, distillation=HALF)
        AcceleratorState._reset_state(reset_partial_state=True)
    assert not (tmp_path / "r").exists()
    command = [
        "uptrain",
        str(folder / "gqa"),
        "--data",
        str(data[0]),
        "--output",
        str(tmp_path / "r"),
        "--alpha-steps",
        "2",
    ]
    assert main([*command, "--temperature", "2"]) == 2
    assert "belong to --distill DIR" in capsys.readouterr().err
    assert main([*command, "--distill", str(folder / "mha"), "--distill-share", "2"]) == 2
    assert "distillation's share must be above 0 and at most 1, got 2.0" in capsys.readouterr().err
