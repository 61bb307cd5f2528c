"""Parameters: the rules compared with the models' own code, the record with the catalogue, the bound worked by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attention.catalog import published
from attention.configs.reader import spec_from_config
from attention.formats import weight_bytes
from attention.oracle import accuracy
from attention.oracle.parameters import count
from attention.parameters import Parameters, Routed, recorded
from attention.serving.roofline import decode_floor

EXPLAINED = {
    "Qwen/Qwen3-Next-80B-A3B-Instruct": "A3B is cut, not rounded: 3.3 billion without the embeddings",
}
"""Models whose makers state another number of active parameters than we count, to the digits given, and why."""
CONFIGS = Path(__file__).parents[1] / "data" / "configs"
OWN_CODE = {c.model: c.n_parameters for c in accuracy.load().checks if c.n_parameters and c.source == "catalogue"}
H100 = published.accelerator("h100-sxm")


def test_the_expected_number_of_experts_by_hand() -> None:
    group = Routed(n_layers=3, n_experts=4, n_chosen=2, each=5)
    assert group.total == 60
    assert [group.distinct(b) for b in (1, 2, 3)] == pytest.approx([2, 4 * (1 - 1 / 4), 4 * (1 - 1 / 8)])
    counted = Parameters(101, looked_up=17, rows=2, idle=7, routed=(group,))
    assert counted.active == 101 - 3 * 2 * 5
    assert counted.read == 101 - 30 - 17 - 7 + 2
    assert counted.expected_read(1) == counted.read
    assert counted.expected_read(2) == counted.read + 3 * 1 * 5


@pytest.mark.parametrize(
    "values",
    [{"total": 0}, {"total": 5, "looked_up": 6}, {"total": 5, "rows": -1}, {"total": 5, "idle": 3, "looked_up": 3}],
)
def test_parts_that_contradict_the_whole_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"total|rows"):
        Parameters(**values)
    with pytest.raises(ValueError, match="n_chosen must be between 1 and n_experts = 4, got 5"):
        Routed(1, 4, 5, 7)


@pytest.mark.parametrize("row", [r for r in published.models() if r.spec], ids=lambda r: r.id)
def test_a_row_states_what_is_counted(row: published.ModelRow) -> None:
    known = recorded(row.id)
    assert (known is None) == (row.n_parameters is None), "python -m attention accuracy --write"
    if known is None:
        return
    assert known.total == row.n_parameters
    if row.id in OWN_CODE and row.family != "T5":  # its class always ties the two embeddings
        assert known.total == OWN_CODE[row.id]
    if row.n_active_parameters and row.id not in EXPLAINED:
        # makers count the embeddings or leave out one or both
        assert known.routed, row.id
        assert row.hidden_size is not None
        apart = 2 * known.looked_up or 300_000 * row.hidden_size
        unit = 10 ** min(9, len(str(row.n_active_parameters)) - 1)
        while row.n_active_parameters % unit:
            unit //= 10
        assert known.active - apart - unit / 2 <= row.n_active_parameters <= known.active + unit / 2, known


def test_rules_count_what_the_models_own_code_has() -> None:
    checked: set[str] = set()
    for row in published.models():
        if row.config is None or recorded(row.id) is None or row.model_type in checked:
            continue
        spec = spec_from_config(row.config, row.id)
        if spec.weights is None:
            continue
        known = recorded(row.id)
        checked.add(str(row.model_type))
        for name in ("total", "looked_up", "rows", "routed"):
            assert getattr(spec.weights, name) == getattr(known, name), (row.id, name)
    assert len(checked) >= 20, sorted(checked)


@pytest.mark.parametrize("name", ["deepseek-ai/DeepSeek-V3", "google/gemma-4-E2B", "google/flan-t5-xl", "gpt2"])
def test_the_record_is_what_the_own_code_says(name: str) -> None:
    row = published.model(name)
    assert row.config is not None
    assert count(row.config) == recorded(row.id)


def test_a_pasted_file_is_counted_or_says_why_not() -> None:
    config = json.loads((CONFIGS / "deepseek-ai__DeepSeek-V3.json").read_text(encoding="utf-8"))
    spec = spec_from_config(config)
    assert (spec.n_parameters, spec.n_active_parameters) == (671_026_404_352, 37_552_282_624)
    for vocabulary in (-5, "many", 0, 2.5):
        spec = spec_from_config({**config, "vocab_size": vocabulary})
        assert spec.n_parameters is None
        assert any("vocab_size must be" in note for note in spec.notes)
    left_out = spec_from_config({k: v for k, v in config.items() if k != "vocab_size"})
    assert left_out.weights is not None
    assert left_out.weights.assumed == ("vocab_size = 129,280",)


def test_at_least_is_a_bound() -> None:
    gemma = published.model("google/gemma-4-E2B").spec
    assert gemma is not None
    # per-layer embeddings are looked up: 2.35 of 4.63 billion parameters
    assert decode_floor(gemma, H100, 8192).floor.time_s == pytest.approx(1.4e-3, rel=0.05)
    mixtral = published.model("mistralai/Mixtral-8x7B-v0.1").spec
    assert mixtral is not None
    one, many = decode_floor(mixtral, H100, 8192), decode_floor(mixtral, H100, 8192, 32)
    assert one.expected is None
    assert one.weight_bytes == many.weight_bytes
    assert many.expected is not None
    assert many.expected.time_s > many.floor.time_s
    # 32 tokens choose nearly all of 8 experts
    assert many.expected_weight_bytes == pytest.approx(weight_bytes(46_702_792_704 - 131_072_000, "bf16"), rel=1e-3)


def test_counting_needs_no_torch() -> None:
    code = (
        "import sys; from attention.catalog import published as catalog; from attention import parameters; "
        "from attention.configs import parameter_rules; "
        "[row.spec for row in catalog.models()]; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
