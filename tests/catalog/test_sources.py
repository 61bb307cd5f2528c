import json
from pathlib import Path

import pytest

from attention.catalog import sources
from attention.catalog.published import model

SIZES = {"num_hidden_layers": 3, "num_attention_heads": 14, "num_key_value_heads": 7, "head_dim": 6, "hidden_size": 70}
CONFIG = {"model_type": "llama", "torch_dtype": "float16"} | SIZES


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_HUB", "0")


def test_a_catalogue_name_comes_first() -> None:
    assert sources.resolve("llama-3.1-8b") is model("meta-llama/Llama-3.1-8B").spec


def test_a_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for source in (tmp_path, tmp_path / "config.json"):
        spec = sources.resolve(str(source))
        assert (spec.name, spec.n_layers, spec.n_kv_heads, spec.model_dtype) == (str(source), 3, 7, "fp16")
        assert sources.configuration(str(source)) == CONFIG


def test_a_page_reads_no_file_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match="unknown model"):
        sources.resolve(str(tmp_path), paths=False)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.json", "there is no file 'missing.json'"),
        ("./missing", "is neither a .json file nor a folder with a config.json"),
        ("../../etc/passwd", "is neither a .json file nor a folder with a config.json"),
        ("", "a model is a name or a path"),
        ("x" * 100_000, "is neither a model's name nor a usable path"),
        ("nul\0byte", "unknown model|usable path"),
        ("no-such-model", "unknown model 'no-such-model'"),
        ("google/Gemini-1.0", "Layers, heads and head sizes are unpublished"),
    ],
)
def test_what_is_not_found_is_said(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sources.resolve(source)


def test_a_file_of_another_name_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "passwd"
    secret.write_text(json.dumps(CONFIG))
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: pytest.fail("opened"))
    for source in (str(secret), f"{tmp_path}/x/../passwd"):
        with pytest.raises(ValueError, match=r"neither a \.json file"):
            sources.resolve(source)


def test_a_catalogue_row_hands_out_its_configuration() -> None:
    assert sources.configuration("gpt2")["n_layer"] == 12
    with pytest.raises(ValueError, match="Grok-1: the catalogue holds no configuration"):
        sources.configuration("xai-org/grok-1")
