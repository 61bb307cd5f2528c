"""The calibrated conversion with bad input, and interrupted: a message that names the cause, and nothing half made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from attention.cli import main
from attention.convert import streamed
from attention.convert.run import convert
from attention.convert.text import windows
from tests.convert.test_calibrated import N_KV, K, calibration, logits
from tests.convert.test_run import tensors_of
from tests.convert_models import make_model, save


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make_model("llama", N_KV, vocab_size=256), tmp_path_factory.mktemp("model") / "source")


def command(source: Path, target: Path, *options: str) -> list[str]:
    return [
        "convert",
        str(source),
        str(target),
        "--n-kv-heads",
        str(K),
        "--pool",
        "calibrated",
        "--refine",
        "0",
        *options,
    ]


def damaged(path: Path, damage: Callable[[Any], None]) -> Path:
    model = make_model("llama", N_KV)
    with torch.no_grad():
        damage(model.model)
    return save(model, path)


def in_mlp(layer: int, value: float) -> Callable[[Any], None]:
    def damage(model: Any) -> None:
        model.layers[layer].mlp.down_proj.weight[0, 0] = value

    return damage


def in_embedding(model: Any) -> None:
    model.embed_tokens.weight[:, 3] = torch.inf


def in_keys(model: Any) -> None:
    model.layers[1].self_attn.k_proj.weight[3, 5] = torch.nan


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (in_mlp(0, torch.nan), "layer 0 writes NaN or infinity for the calibration text"),
        (in_mlp(2, torch.nan), "layer 2 writes NaN or infinity"),
        (in_mlp(1, 3e38), "layer 1 writes NaN or infinity"),
        (in_embedding, "the embedding gives NaN or infinity"),
        (in_keys, "layer 1: the layer's projections hold NaN or infinity: it cannot be merged"),
    ],
)  # fmt: skip
def test_damaged_weights_are_found_where_they_are(damage: Callable[[Any], None], match: str, tmp_path: Path) -> None:
    folder = damaged(tmp_path / "damaged", damage)
    with pytest.raises(ValueError, match=match):
        convert(folder, tmp_path / "target", K, "calibrated", calibration=calibration())
    assert [p.name for p in tmp_path.iterdir()] == ["damaged"]


def no_queries(attention: Any) -> None:
    attention.q_proj.weight.zero_()
    attention.q_proj.bias.zero_()


def no_keys(attention: Any) -> None:
    attention.k_proj.weight.zero_()
    attention.k_proj.bias.zero_()


def no_values(attention: Any) -> None:
    attention.v_proj.weight.zero_()
    attention.v_proj.bias.zero_()


def no_output(attention: Any) -> None:
    attention.o_proj.weight.zero_()


def dead_head(attention: Any) -> None:
    """Make a K/V head that nothing reads, as pruning leaves one."""
    size = attention.head_dim * 2
    attention.q_proj.weight[:size] = 0
    attention.q_proj.bias[:size] = 0
    attention.o_proj.weight[:, :size] = 0


@pytest.mark.parametrize("kill", [no_queries, no_keys, no_values, no_output, dead_head])
def test_projections_of_zeros_are_merged(kill: Callable[[Any], None], tmp_path: Path) -> None:
    def damage(model: Any) -> None:
        for layer in (0, 2):
            kill(model.layers[layer].self_attn)

    folder = damaged(tmp_path / "source", damage)
    report = convert(folder, tmp_path / "target", K, "calibrated", calibration=calibration())
    assert all(np.isfinite(t).all() for t in tensors_of(tmp_path / "target").values())
    assert report.calibration is not None
    # to lose what nothing reads costs nothing
    limit = 1e-12 if kill in (no_output, no_values) else 0.9
    assert report.calibration["layers"][0]["error"] <= limit
    apart = (logits(tmp_path / "target") - logits(folder)).std() / logits(folder).std()
    assert apart < 1
    if kill is dead_head:
        # the head that is merged with a dead one keeps all it has
        assert report.calibration["layers"][0]["values_kept_by_head"][1] > 0


def test_too_little_text_is_said_and_survived(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The text is one byte, 32 times: its moments have rank one."""
    text = tmp_path / "text"
    text.write_bytes(b"a" * 32)
    assert main(command(source, tmp_path / "target", "--calibration", str(text), "--json")) == 0
    report = json.loads(capsys.readouterr().out)["calibration"]
    assert report["short"]
    assert all(np.isfinite(t).all() for t in tensors_of(tmp_path / "target").values())
    shutil.rmtree(tmp_path / "target")
    assert main(command(source, tmp_path / "target", "--calibration", str(text))) == 0
    assert "few for so wide heads: directions that the text never shows are ranked" in capsys.readouterr().out


def test_held_out_is_never_less_than_a_window(source: Path, tmp_path: Path) -> None:
    """The rest of the file is an eighth as long as the text of the calibration, and shorter than a window."""
    text = tmp_path / "text"
    text.write_bytes(b"the quick brown fox jumps over the lazy dog " * 30)

    def tokens_of(words: str, vocabulary: int) -> Any:
        return np.frombuffer(words.encode(), np.uint8)

    fitted, held_out, _ = windows(source, text, 160, tokens_of)
    assert fitted.shape == (4, 40)
    assert held_out.shape[0] == 1160 // 40  # plenty follows
    text.write_bytes(text.read_bytes()[:190])
    fitted, held_out, _ = windows(source, text, 160, tokens_of)
    assert fitted.shape == (4, 40)
    assert held_out.shape == (8192 // 40, 40)  # Python's topics


@pytest.mark.parametrize("content", ["{}", "nonsense", '{"model": 3}'])
def test_damaged_tokenizer(content: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text(content)
    assert main(command(tmp_path / "source", tmp_path / "target")) == 2
    assert "source cannot be read: " in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("options", "match"),
    [(("--refine", "-1"), "refine_steps must be"), (("--seed", "-1"), "seed must be"),
     (("--calibration", "."), "is a folder, not an ordinary file"),
     (("--calibration", "nothing.txt"), "cannot read --calibration nothing.txt")],
)  # fmt: skip
def test_options(
    options: tuple[str, ...], match: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(command(source, tmp_path / "target", *options)) == 2
    assert match in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_disk_that_fills_up_between_layers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    real, written = streamed.save_file, []

    def full(tensors: Any, path: Path, **options: Any) -> None:
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            # what safetensors raises then is not an OSError
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(tensors, path, **options)

    monkeypatch.setattr(streamed, "save_file", full)
    text = tmp_path / "text"
    text.write_bytes(b"keys and values " * 20)
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    assert main(command(source, tmp_path / "target", "--calibration", str(text))) == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert "target was not made" in message
    assert len(written) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["text"]
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before


def test_what_a_kill_leaves_half_written_is_not_believed(source: Path, tmp_path: Path) -> None:
    """A layer's file cut short, as a killed process or a power cut leaves it: the run starts anew and ends well."""

    def stop(report: Any, n_layers: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "target", K, "calibrated", calibration=calibration(), layer_done=stop)
    (layer,) = (tmp_path / ".target.calibrated").glob("*.safetensors")
    layer.write_bytes(layer.read_bytes()[:-7])
    seen: list[int] = []
    convert(source, tmp_path / "target", K, "calibrated", calibration=calibration(),
            layer_done=lambda report, n_layers: seen.append(report.layer))  # fmt: skip
    assert seen == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
