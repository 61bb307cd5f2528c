"""The lesson's code is the code that runs, every changed line is explained, and the script runs with torch alone."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention.jobs import code_check
from attention.lessons import code
from attention.lessons.code import (
    GQA,
    MHA,
    MQA,
    STEPS,
    Sizes,
    class_lines,
    class_text,
    script,
    shapes,
    sizes_at,
    step_lines,
)
from ui.sections import code as code_section

SIZES = Sizes(hidden_size=77, n_heads=6, n_kv_heads=3, head_dim=14, batch=3, context=13, query=1)


@pytest.mark.parametrize("name", [MHA, MQA, GQA])
def test_shown_lines_are_the_lines_of_the_class_that_runs(name: str) -> None:
    from attention import layers

    source, start = inspect.getsourcelines(getattr(layers, name))
    real = {start + i: line.rstrip("\n") for i, line in enumerate(source)}
    shown = class_lines(name)
    assert all(real[number] == text for number, text in shown)
    # nothing but docstrings and the blank line after the class's own may be missing
    missing = "\n".join(text for number, text in real.items() if number not in dict(shown))
    assert missing.count('"""') % 2 == 0
    assert "self." not in missing


@pytest.mark.parametrize("name", [MHA, MQA, GQA])
def test_shown_text_computes_what_the_class_computes(name: str) -> None:
    import torch

    from attention import layers

    shown = dict(vars(layers))
    exec(compile("from __future__ import annotations\n" + class_text(name), "shown", "exec"), shown)
    arguments = (21, 6, 10, *((3,) if name == GQA else ()))
    real, copy = getattr(layers, name)(*arguments), shown[name](*arguments)
    assert type(copy) is not type(real)
    copy.load_state_dict(real.state_dict())
    x = torch.randn(2, 5, 21)
    assert torch.equal(copy(x), real(x))


@pytest.mark.parametrize("step", [s for s, (old, _) in STEPS.items() if old])
def test_a_step_turns_the_one_class_into_the_other_and_explains_each_added_line(step: str) -> None:
    old_name, new_name = STEPS[step]
    lines = step_lines(step, SIZES)
    assert [line.text for line in lines if line.change != "-"] == [text for _, text in class_lines(new_name)]
    assert [line.text for line in lines if line.change != "+"] == [text for _, text in class_lines(str(old_name))]
    added = [line for line in lines if line.change == "+"]
    assert added
    for line in added:
        assert line.text.strip() in code.NOTES, f"no note for: {line.text}"
        assert "{" not in line.note


def test_the_first_step_changes_nothing() -> None:
    assert {line.change for line in step_lines("MHA", SIZES)} == {" "}


def test_the_note_counts_the_changed_lines() -> None:
    lines = step_lines("MHA → MQA", SIZES)
    inside = [line for line in lines if line.change == "+" and not line.text.startswith("class")]
    assert lines[1].note == f"The same skeleton: {len(inside)} lines inside change."


def test_unknown_step_is_refused() -> None:
    with pytest.raises(ValueError, match="step must be one of"):
        step_lines("MQA → MHA", SIZES)


def test_a_note_for_a_line_that_is_gone_would_be_found() -> None:
    everywhere = {text.strip() for name in (MHA, MQA, GQA) for _, text in class_lines(name)}
    assert set(code.NOTES) <= everywhere


@pytest.mark.parametrize("step", STEPS)
def test_shapes_are_those_of_the_forward_pass(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    import torch

    from attention import layers

    seen: dict[str, tuple[int, ...]] = {}
    attend = layers.attend

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = attend(q, k, v)
        seen.update({"q (grouped)": q.shape, "k, v (cache)": k.shape, "out": out.shape})
        assert k.shape == v.shape
        return out

    monkeypatch.setattr(layers, "attend", spy)
    name = STEPS[step][1]
    chosen = (SIZES.n_kv_heads,) if name == GQA else ()
    layer = getattr(layers, name)(SIZES.hidden_size, SIZES.n_heads, SIZES.head_dim, *chosen)
    told_sizes = sizes_at(step, SIZES)
    cache = layers.KVCache(SIZES.batch, layer.n_kv_heads, SIZES.context, SIZES.head_dim)
    layer(torch.randn(SIZES.batch, SIZES.context - 1, SIZES.hidden_size), cache)
    x = torch.randn(SIZES.batch, 1, SIZES.hidden_size)
    result = layer(x, cache)
    # as the page's table has them
    told = {row["Tensor"]: row["Shape"] for row in code_section.shape_rows(SIZES, step)}
    for tensor, real in {**seen, "x": x.shape, "result": result.shape}.items():
        assert told[tensor] == "[" + ", ".join(f"{n:,}" for n in real) + "]", tensor
    for shape in shapes(told_sizes):
        assert len(shape.sizes) == len(shape.names.split(", "))
    assert cache.nbytes == told_sizes.cache_bytes(4)
    assert sum(p.numel() for p in layer.parameters()) == told_sizes.n_parameters


def test_shapes_of_an_unknown_step() -> None:
    with pytest.raises(ValueError, match="step must be one of MHA"):
        sizes_at("GQA → MLA", SIZES)


def test_the_script_runs_with_torch_alone(tmp_path: Path) -> None:
    file = tmp_path / "shared_heads.py"
    file.write_text(script(SIZES))
    # modules of these names stand in the way of the real ones
    for absent in ("jaxtyping", "attention"):
        (tmp_path / f"{absent}.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert f"{SIZES.n_parameters:,}" in done.stdout
    assert f"{SIZES.cache_bytes(4):,}" in done.stdout
    assert done.stdout.count("largest difference") == 2


def test_the_script_of_a_huge_layer_stays_small_and_says_so() -> None:
    text = script(Sizes(16_384, 128, 8, 128, batch=64, context=131_072))
    assert "made smaller, to run anywhere in seconds: hidden_size 16,384, context 131,072, batch 64" in text
    assert "hidden_size, n_heads, n_kv_heads, head_dim = 1024, 128, 8, 128" in text
    assert "made smaller" not in script(SIZES)


def test_run_it_counts_and_compares() -> None:
    rows: list[dict] = []
    payload = {"hidden_size": 77, "n_heads": 6, "n_kv_heads": 3, "head_dim": 14, "batch": 3, "context": 13}
    code_check.run(payload, rows.append, lambda: False)
    counts = {row["name"]: row for row in rows if row["what"] == "counts"}
    assert counts["GQA"]["n_parameters"] == SIZES.n_parameters
    assert counts["GQA"]["cache_bytes"] == SIZES.cache_bytes(2)
    assert counts["MHA"]["cache_bytes"] == 2 * counts["GQA"]["cache_bytes"] == 6 * counts["MQA"]["cache_bytes"]
    assert {tuple(row["output_shape"]) for row in counts.values()} == {(3, 1, 77)}
    equal = [row for row in rows if row["what"] == "equality"]
    assert len(equal) == 3
    assert all(row["equal"] for row in equal)


def test_run_it_tells_unequal_layers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from attention.lessons import code_check as checks

    class Forgetful(checks.KVCache):
        def append(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().append(torch.zeros_like(k), v)

    monkeypatch.setattr(checks, "KVCache", Forgetful)
    rows = list(checks.equalities(SIZES))
    assert [row["equal"] for row in rows] == [True, True, False]


@pytest.mark.parametrize(
    ("field", "value"), [("n_kv_heads", 4), ("n_heads", 0), ("head_dim", -1), ("context", "8"), ("batch", None)]
)
def test_run_it_refuses_impossible_sizes(field: str, value: object) -> None:
    payload = {"hidden_size": 77, "n_heads": 6, "n_kv_heads": 3, "head_dim": 14, "batch": 3, "context": 13}
    with pytest.raises(ValueError, match=field):
        code_check.run({**payload, field: value}, print, lambda: False)
