"""The command for a GPU, stage by stage, with a model of a few thousand parameters in place of SmolLM2."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench import docstrings
from bench.real_uptraining import Stage, Study
from bench.trained_model import Sizes

SIZES = Sizes(16, 3, 4, 2, 2, 5, 3, 1, 3, 20)


def test_every_stage_writes_what_it_has(tmp_path: Path) -> None:
    config = LlamaConfig(vocab_size=61, hidden_size=30, intermediate_size=23, num_hidden_layers=2, head_dim=10,
                         num_attention_heads=3, num_key_value_heads=3)  # fmt: skip
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    rows = torch.randint(0, 61, (40, 16))
    study = Study(
        Stage(tmp_path, 1.0, "cpu"), SIZES, "cpu", 1, False, None,
        original=LlamaForCausalLM(config).eval(), train=rows[:30], validation=rows[30:33], held_out=rows[33:],
    )  # fmt: skip
    models = study.conversions()
    best = study.rates(models)
    assert best.keys() == {"calibrated", "mean"}
    assert study.steps_that_fit(models["mean"]) >= SIZES.points
    for name, distilled in (("calibrated", False), ("mean", True)):
        study.uptrain(name, distilled, models[name], best[name], 4)
    conversions = json.loads((tmp_path / "conversions.json").read_text())
    assert conversions["calibrated"]["layers"][1]["groups"] == [[0, 1, 2]]
    for label in ("run-calibrated", "run-mean-distilled"):
        run = json.loads((tmp_path / f"{label}.json").read_text())
        assert [p["step"] for p in run["points"]] == [0, 2, 4]
        assert run["points"][-1]["tokens"] == 4 * 3 * 16
        # another implementation of attention: float32 rounds otherwise
        converted = conversions[run["start"]]["held_out_loss"]
        assert math.isclose(run["before"]["held_out_loss"], converted, rel_tol=1e-5)
        assert run["after"]["held_out_loss"] != run["before"]["held_out_loss"]
        assert run["about"]["torch"] == torch.__version__


def test_docstrings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    words = "A sentence that says what the function below gives back, and in which unit it gives it back."
    path.write_text(f'"""short"""\n\ndef f():\n    """{words}"""\n')
    assert docstrings.docstrings_of(path) == [words]
    path.write_text("def f(:")
    assert docstrings.docstrings_of(path) == []
