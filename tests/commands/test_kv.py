"""The commands a script would call: kv, models, fit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attention import cli


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_HUB", "0")


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[dict], str]:
    """(exit code, JSON lines, standard error)"""
    code = cli.main([*argv, "--json"])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_kv_of_a_named_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, [result], err = run(capsys, "kv", "meta-llama/Llama-3.1-8B", "--context", "131072", "--batch", "3")
    assert (code, err) == (0, "")
    assert result["model"] == "meta-llama/Llama-3.1-8B"
    assert (result["context"], result["batch"], result["kv_dtype"]) == (131072, 3, "bf16")
    assert (result["bytes_per_token"], result["fixed_bytes"]) == (131072, 0)
    assert result["state_bytes"] == 3 * 2**34 == 3 * result["sequence_bytes"]
    assert [layer["index"] for layer in result["layers"]] == list(range(32))
    assert {(layer["kind"], layer["n_kv_heads"]) for layer in result["layers"]} == {("full", 8)}
    assert sum(layer["state_bytes"] for layer in result["layers"]) == result["state_bytes"]
    assert sum(result["by_kind"].values()) == result["state_bytes"]
    assert result["allocated_bytes"] == result["bytes_per_rank"] == result["allocation"][-1]["bytes"]


def test_kv_of_several_sources_in_order_with_one_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, results, err = run(
        capsys, "kv", "google/gemma-3-27b-it", "no-such", "deepseek-ai/DeepSeek-V3", "--context", "128k"
    )
    assert (code, err) == (2, "")
    assert [r["model"] for r in results] == ["google/gemma-3-27b-it", "no-such", "deepseek-ai/DeepSeek-V3"]
    assert round(results[0]["state_bytes"] / 2**30, 2) == 10.41
    assert "unknown model 'no-such'" in results[1]["error"]
    assert results[2]["bytes_per_token"] == 70272


def test_kv_of_a_file_without_a_dtype_names_the_field(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 6}
    config = {"model_type": "llama", "hidden_size": 30} | sizes
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    code, [result], _ = run(capsys, "kv", str(path))
    assert code == 2
    assert "torch_dtype" in result["error"]
    code, [result], _ = run(capsys, "kv", str(path), "--kv-dtype", "float16", "--context", "7")
    assert (code, result["state_bytes"], result["kv_dtype"]) == (0, 2 * 3 * 12 * 7 * 2, "fp16")


def test_what_an_engine_sets_aside(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("kv", "llama-3.1-8b", "--context", "1000", "--tp", "16", "--page-tokens", "64", "--max-context", "2k")
    code, [result], _ = run(capsys, *argv)
    assert code == 0
    assert [step["bytes"] // 131072 for step in result["allocation"]] == [1000, 2048, 2048, 4096]
    assert (result["allocated_bytes"], result["bytes_per_rank"]) == (4096 * 131072, 256 * 131072)


def test_counterfactual_heads(capsys: pytest.CaptureFixture[str]) -> None:
    _, [mqa], _ = run(capsys, "kv", "llama-3.1-8b", "--n-kv-heads", "1")
    _, [mha], _ = run(capsys, "kv", "llama-3.1-8b", "--n-kv-heads", "32")
    assert (mqa["bytes_per_token"], mha["bytes_per_token"]) == (131072 // 8, 131072 * 4)
    code, [refused], _ = run(capsys, "kv", "llama-3.1-8b", "--n-kv-heads", "5")
    assert (code, refused["error"]) == (2, "n_kv_heads must divide n_heads = 32, got 5")


def test_an_encoder_has_its_own_context(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("kv", "google/flan-t5-xl", "--context", "7", "--kv-dtype", "fp16", "--encoder-context", "11")
    _, [result], _ = run(capsys, *argv)
    assert (result["fixed_bytes"], result["bytes_per_token"]) == (24 * 32 * 128 * 11 * 2, 24 * 32 * 128 * 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--context", "0"), "context must be between 1 and 4,294,967,296, got 0"),
        (("--context", "1000000000000"), "context must be between 1 and 4,294,967,296, got 1000000000000"),
        (("--batch", "0"), "batch must be between 1 and 1,048,576, got 0"),
        (("--tp", "0"), "tp must be between 1"),
        (("--max-context", "9", "--context", "10"), "max_context must be at least the context of 10, got 9"),
    ],
)
def test_bad_numbers_are_one_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str) -> None:
    code, results, err = run(capsys, "kv", "gpt2", "--kv-dtype", "fp16", *argv)
    assert code == 2
    lines = err.splitlines() + [r["error"] for r in results]
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    "argv",
    [
        ("kv", "gpt2", "--context", "many"),
        ("kv", "gpt2", "--context", "1e5"),
        ("kv", "gpt2", "--kv-dtype", "bf17"),
        ("kv", "gpt2", "--window-pool", "none"),
        ("kv",),
        ("nonsense",),
        ("fit", "gpt2", "--parameters", "lots"),
    ],
)
def test_bad_words_are_one_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m attention")


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kv", "llama-3.1-8b", "google/gemma-3-1b-it", "--context", "32768"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "context 32,768 tokens, batch 1"
    row = "llama-3.1-8b 32 8 bf16 128 KiB 0 B 4.00 GiB 4.00 GiB 4.00 GiB"
    assert lines[2].split() == row.split()
    assert "139 MiB" in lines[3]


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, _ = run(capsys, "models", "--family", "gemma")
    assert code == 0
    assert {row["family"] for row in rows} == {"Gemma"}
    assert all(row["source"] and row["date"] for row in rows)
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    assert "Gemini 1.0" in table
    assert "unpublished" in table
    assert cli.main(["models", "--family", "Rubens"]) == 2
    assert "family must be one of" in capsys.readouterr().err


def test_fit(capsys: pytest.CaptureFixture[str]) -> None:
    code, [result, refused], _ = run(capsys, "fit", "meta-llama/Llama-3.1-70B", "falcon-7b", "--count", "8")
    assert code == 2
    assert refused["error"] == "tp must divide n_heads = 71, got 8"
    assert result["fits"] is True
    assert result["weight_bytes"] == -(-2 * 70_553_706_496 // 8)
    assert result["smallest_count_power_of_two"] == 4
    assert result["floor_binds"] == "memory"
    code, [small], _ = run(capsys, "fit", "gpt2", "--kv-dtype", "fp16", "--parameters", "0.124B", "--reserve", "0")
    assert (code, small["weight_bytes"]) == (0, 248_000_000)
    assert cli.main(["fit", "llama-3.1-8b", "--accelerator", "abacus"]) == 2
    assert "unknown accelerator 'abacus'" in capsys.readouterr().err


def test_fit_promises_nothing_without_room(capsys: pytest.CaptureFixture[str]) -> None:
    model = "meta-llama/Llama-3.1-405B"
    code, [result], _ = run(capsys, "fit", model)
    assert (code, result["fits"]) == (0, False)
    assert [result[name] for name in ("floor_time_s", "floor_tokens_per_s", "floor_binds")] == [None] * 3
    assert cli.main(["fit", model]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[1].strip() == "this load does not fit"
    assert "tokens/s" not in text
    assert cli.main(["fit", model, "--count", "16"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[1].strip() == "this load fits"
    assert "tokens/s" in text


def test_from_a_shell() -> None:
    """Run once as a process: the exit code, one line each, and no torch for commands that only compute."""
    argv = [sys.executable, "-X", "importtime", "-m", "attention", "kv", "llama-3.1-8b", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"HEADSHARE_HUB": "0"}, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["state_bytes"] == 2**30
    assert "torch" not in done.stderr
