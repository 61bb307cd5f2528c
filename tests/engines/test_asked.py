"""llama.cpp's own answers: those recorded equal what is computed today, and models that cannot be asked are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from attention import cli
from attention.catalog.sources import configuration, resolve
from attention.configs import gguf_header
from attention.engines import ask_llama_cpp, asked, shape_gguf
from attention.engines.llama_cpp import Settings, pools
from attention.engines.log import read
from attention.engines.rules import conv_kernel
from attention.spec import ModelSpec, attention_layer, uniform_spec

LOG = """\
llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells
llama_kv_cache: size =  640.00 MiB (  8192 cells,  10 layers,  1/1 seqs), K (f16):  320.00 MiB, V (f16):  320.00 MiB
llama_kv_cache: size =  624.00 MiB (  1536 cells,  52 layers,  1/1 seqs), K (f16):  312.00 MiB, V (f16):  312.00 MiB
"""


def test_every_recorded_answer_is_what_is_computed_today() -> None:
    results = asked.load()
    answers = [row for row in results.rows if row.reason is None]
    for row in answers:
        spec = resolve(row.model)
        settings = Settings(row.context, type_k=row.kind, type_v=row.kind)
        log = read((row.printed or "").encode() + b"\nllama_kv_cache: \n")
        assert not log.figures, "the record is not a log"
        found = ask_llama_cpp.compared(log, pools(spec, settings))
        assert asked.in_words(found, "computed") == row.computed, row.model
    equal = [row for row in answers if row.equal]
    assert len({row.model for row in answers}) > 120
    # each other one is explained in docs/engines.md
    assert len(equal) >= 0.95 * len(answers)
    assert all(row.reason for row in results.rows if row.printed is None)


def test_answers_are_paired_by_cells_and_layers() -> None:
    spec = resolve("google/gemma-3-27b-pt")
    both = ask_llama_cpp.compared(read(LOG.encode()), pools(spec, Settings(8000)))
    assert [(pool.name, pool.equal) for pool in both] == [("KV", True), ("SWA", True)]
    short = ask_llama_cpp.compared(read(LOG.replace("1536", "1024").encode()), pools(spec, Settings(8000)))
    assert [(pool.name, pool.equal) for pool in short] == [("KV", True), ("SWA", False), ("not computed", False)]


def test_shapes_that_stand_for_a_model() -> None:
    shapes = {
        "meta-llama/Llama-3.1-8B": ("llama", None),
        "google/gemma-3-27b-pt": ("gemma3", 1024),
        "openai/gpt-oss-20b": ("gemma2", 128),
        "deepseek-ai/DeepSeek-V3": ("deepseek2", None),
    }
    for name, expected in shapes.items():
        shape = shape_gguf.shape_of(resolve(name))
        assert (shape.arch, shape.window) == expected
    for name, words in (
        ("google/gemma-4-31B", "different widths"),
        ("deepseek-ai/DeepSeek-V4-Flash", "keeps what"),
        ("tiiuae/falcon-mamba-7b", "keeps what"),
    ):
        with pytest.raises(ValueError, match=words):
            shape_gguf.shape_of(resolve(name))
    odd = (attention_layer(6, 3, 32), attention_layer(6, 3, 32, 128))
    with pytest.raises(ValueError, match="in this order"):
        shape_gguf.shape_of(ModelSpec("odd", odd))


def test_a_file_has_the_models_own_sizes(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = tmp_path / "shape.gguf"
    shape_gguf.write(uniform_spec(5, 14, 7, 96), path)
    config = configuration(str(path))
    assert gguf_header.CACHE
    assert "5" in json.dumps(config)
    assert path.stat().st_size < 10**6
    with pytest.raises(ValueError, match="would take"):
        shape_gguf.write(uniform_spec(5000, 1024, 1024, 128), path)


def test_without_the_wheel_it_says_what_to_install(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["verify", "meta-llama/Llama-3.1-8B", "--engine", "llama.cpp"]) == 2
    assert "requirements-engines.txt" in capsys.readouterr().err


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify"]) == 2
    assert "a model is needed" in capsys.readouterr().err


@pytest.mark.skipif(os.environ.get("HEADSHARE_SOAK") != "1", reason="asks llama.cpp itself")
@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M", "google/gemma-3-1b-pt", "deepseek-ai/DeepSeek-V2-Lite"])
def test_asking_now_gives_what_is_recorded(name: str) -> None:
    pytest.importorskip("xllamacpp")
    rows = asked.rows_of(name, resolve(name), conv_kernel(configuration(name)))
    assert all(row.equal for row in rows)
