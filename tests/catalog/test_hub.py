"""The Hub, without a network: the transport is replaced, and what must be refused is refused before it is called."""

import json
from pathlib import Path

import huggingface_hub
import pytest

from attention.catalog import hub, sources
from attention.configs.reader import MAX_BYTES

HOSTILE = [
    "../../etc/passwd",
    "a/../b",
    "..",
    "org/..",
    "org/name/extra",
    "https://example.org/config.json",
    "org/name?x=1",
    "org/name#x",
    "org/na me",
    "org\\name",
    "org/name\n",
    "/etc/passwd",
    "file:///etc/passwd",
    "org/" + "x" * 97,
    "örg/name",
    "org/name%2e%2e",
    "user@host/name",
    "",
]


class Metadata:
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Any attempt to open a connection is noted and fails the test."""
    asked: list[str] = []

    def refuse(*args: object, **kwargs: object) -> None:
        asked.append(repr(args))
        raise AssertionError("the network was asked")

    for name in ("hf_hub_download", "get_hf_file_metadata"):
        monkeypatch.setattr(huggingface_hub, name, refuse)
    return asked


def answer(monkeypatch: pytest.MonkeyPatch, path: Path, size: int | None = None) -> dict:
    """Let a file on disk stand for the Hub; returns what it was asked."""
    asked: dict = {}

    def metadata(url: str, **kwargs: object) -> Metadata:
        asked.update(url=url, **kwargs)
        return Metadata(path.stat().st_size if size is None else size)

    def download(model_id: str, filename: str, **kwargs: object) -> str:
        asked.update(model_id=model_id, filename=filename)
        return str(path)

    monkeypatch.setenv("HEADSHARE_HUB", "1")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_a_model_id_is_refused_before_any_access(text: str, no_network: list[str]) -> None:
    assert not hub.is_model_id(text)
    with pytest.raises(ValueError, match="a Hugging Face model id looks like organisation/name"):
        hub.fetch_config(text)
    assert not no_network


@pytest.mark.parametrize("text", ["../../etc/passwd", "https://example.org/a/b", "a/../../b"])
def test_sources_from_a_page_touch_neither_files_nor_network(text: str, no_network: list[str]) -> None:
    with pytest.raises(ValueError, match="unknown model"):
        sources.resolve(text, paths=False)
    assert not no_network


@pytest.mark.parametrize("text", ["meta-llama/Llama-3.1-8B", "gpt-org/a.b_c-1", "0/1"])
def test_model_ids_are_accepted(text: str) -> None:
    assert hub.is_model_id(text)


def test_turned_off_it_says_so_and_asks_nobody(monkeypatch: pytest.MonkeyPatch, no_network: list[str]) -> None:
    monkeypatch.setenv("HEADSHARE_HUB", "0")
    with pytest.raises(ValueError, match="asking the Hugging Face Hub is turned off here"):
        hub.fetch_config("some-org/some-model")
    with pytest.raises(ValueError, match="unknown model 'some-org/some-model'"):
        sources.resolve("some-org/some-model")
    assert not no_network


def test_a_fetched_file_is_read_like_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 14, "num_key_value_heads": 7, "head_dim": 6}
    path.write_text(json.dumps({"model_type": "llama", "hidden_size": 70, "torch_dtype": "bfloat16"} | sizes))
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    asked = answer(monkeypatch, path)
    spec = sources.resolve("some-org/some-model")
    assert (spec.n_layers, spec.n_heads, spec.n_kv_heads, spec.head_dim) == (3, 14, 7, 6)
    assert (asked["model_id"], asked["filename"], asked["token"]) == (
        "some-org/some-model",
        "config.json",
        "from-the-environment",
    )
    assert asked["timeout"] == hub.TIMEOUT_S


def test_a_stored_token_is_never_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    asked = answer(monkeypatch, path)
    hub.fetch_config("some-org/some-model")
    assert asked["token"] is False


def test_a_large_file_is_refused_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    asked = answer(monkeypatch, path, size=MAX_BYTES + 1)
    with pytest.raises(ValueError, match="8,000,001 bytes; at most 8,000,000 are read"):
        hub.fetch_config("some-org/some-model")
    assert "model_id" not in asked


def test_a_hub_out_of_reach_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answer(monkeypatch, tmp_path)

    def offline(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    with pytest.raises(ValueError, match="the Hugging Face Hub cannot be reached; give its"):
        hub.fetch_config("some-org/some-model")
    assert not asked
