"""Calibrated conversion, judged by transformers: exact wherever heads differ only by maps that a model can absorb.

``HEADSHARE_SOAK=1`` runs every family.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attention.convert import attention_module as modules
from attention.convert.layouts import layout_of
from attention.convert.refine import Settings
from attention.convert.run import convert
from attention.convert.served import N_TOKENS, check
from attention.convert.served import PROMPT as PROMPT_TEXT
from attention.convert.streamed import Calibration
from attention.tiny import uptraining as lab
from attention.tiny.calibrated import as_llama
from attention.tiny.train import sample_rows
from tests.convert.test_run import load, tensors_of
from tests.convert_models import FAMILIES, N_HEADS, VOCAB, make_model, save

N_KV, K = 6, 3
MERGE_ALONE = Settings(refine_steps=0, batch=3)
TOKENS = torch.randint(3, VOCAB, (7, 23), generator=torch.Generator().manual_seed(5))
PROBE = TOKENS[:2, :19]
GROUPS = ((0, 3), (1, 5), (2, 4))
"""Pairs of heads that are made alike. They are not neighbours, so the grouping has to find them."""


def calibration(settings: Settings = MERGE_ALONE, **changes: Any) -> Calibration:
    return Calibration(TOKENS, "random tokens", settings, **changes)


def attentions(model: Any) -> list[Any]:
    _, layout = layout_of(model.config.to_dict())
    return [modules.attention_of(layer, layout) for layer in modules.find_layers(model, layout)]


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = load(folder, dtype=torch.float64)(PROBE).logits
    return result


def n_rotated(family: str, head_dim: int) -> int:
    """As the families' own code has it: a share of the head, rounded up to whole pairs."""
    return {"phi": 4, "stablelm": 2, "glm": 8, "glm4": 8, "glm4_moe": 8, "nemotron": 6}.get(family, head_dim)


def make_alike(model: Any, family: str, equal: bool) -> None:
    """Make the second head of each pair the first one under a map that a model can absorb, or the first itself."""
    generator = torch.Generator().manual_seed(3)
    _, layout = layout_of(model.config.to_dict())
    for module in attentions(model):
        # values that are clipped after the projection must keep their size
        equal = (
            equal
            or getattr(module, "clip_qkv", None) is not None
            or getattr(model.config, "clip_qkv", None) is not None
        )
        state = module.state_dict()
        heads = modules.read_heads(state, layout, N_HEADS, N_KV)
        head_dim = heads.k.shape[1]
        rotation = modules.rotation_of(family, module, n_rotated(family, head_dim))
        real, imaginary = rotation.pairs
        with torch.no_grad():
            for one, other in GROUPS:
                if equal or modules.is_normed(module):
                    heads.k[other] = heads.k[one]
                else:
                    factor = torch.randn(rotation.n_rotated // 2, 1, dtype=torch.complex64, generator=generator)
                    pairs = torch.complex(heads.k[one][real], heads.k[one][imaginary]) * factor
                    heads.k[other][real], heads.k[other][imaginary] = pairs.real, pairs.imag
                    rest = slice(rotation.n_rotated, head_dim)
                    size = head_dim - rotation.n_rotated
                    heads.k[other][rest] = torch.randn(size, size, generator=generator) @ heads.k[one][rest]
                heads.v[other] = (
                    heads.v[one] if equal else torch.randn(head_dim, head_dim, generator=generator) @ heads.v[one]
                )
            write_back(module, state, heads, layout)


def write_back(module: Any, state: dict[str, torch.Tensor], heads: Any, layout: Any) -> None:
    rows = {n: getattr(heads, n).flatten(0, 1) for n in "qkv"}
    places = (
        {layout.fused: torch.cat(list(rows.values()))}
        if layout.fused
        else dict(zip((layout.query, *layout.separate), rows.values(), strict=True))
    )
    for name, whole in places.items():
        weight = state[f"{name}.weight"]
        weight.copy_(whole[:, : weight.shape[1]])
        if f"{name}.bias" in state:
            state[f"{name}.bias"].copy_(whole[:, -1])
    for name, tensor in state.items():  # norms of single K heads go with them
        parts = name.split(".")
        for one, other in GROUPS:
            if "norms" in parts and parts[0].startswith("k") and int(parts[-2]) == other:
                tensor.copy_(state[name.replace(f".{other}.", f".{one}.")])
            elif parts[0] == "k_norm" and tensor.numel() == N_KV * heads.k.shape[1]:
                view = tensor.view(N_KV, -1)
                view[other] = view[one]


SOAK = os.environ.get("HEADSHARE_SOAK") == "1"
FEW = ("llama", "phi3", "cohere2", "gpt_oss", "olmo2")
"""Separate and fused projections, neighbouring pairs and no positions, sinks, a norm. The long form has all families.
"""


@pytest.mark.parametrize("equal", [True, False] if SOAK else [False])
@pytest.mark.parametrize("family", FAMILIES if SOAK else FEW)
def test_heads_that_differ_by_what_a_model_absorbs(family: str, equal: bool, tmp_path: Path) -> None:
    model = make_model(family, N_KV)
    make_alike(model, family, equal)
    source = save(model, tmp_path / "source")
    report = convert(source, tmp_path / "target", K, "calibrated", calibration=calibration())
    before, after = logits(source), logits(tmp_path / "target")
    # stored in float32: a rounding of each weight
    torch.testing.assert_close(after, before, rtol=0, atol=3e-5 * float(before.abs().max()))
    assert before.std() > 0.01
    assert report.calibration is not None
    assert [layer["groups"] for layer in report.calibration["layers"]] == [GROUPS] * 3


def test_as_many_heads_is_the_identity(tmp_path: Path) -> None:
    source = save(make_model("llama", N_KV), tmp_path / "source")
    convert(source, tmp_path / "target", N_KV, "calibrated", calibration=calibration())
    old, new = tensors_of(source), tensors_of(tmp_path / "target")
    assert {n: t.tobytes() for n, t in old.items()} == {n: t.tobytes() for n, t in new.items()}


def test_refined_and_evaluated(tmp_path: Path) -> None:
    """The shipped byte model on a little of its own text: the fit lowers the attention's error on windows that it did
    not see, and the loss is transformers' own."""
    stream, rows = lab.text()
    source = save(as_llama(lab.source_model()), tmp_path / "source")
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    tokens = sample_rows(stream, np.random.default_rng(1), 24, 63)
    given = Calibration(tokens, "Python", Settings(refine_steps=15), held_out=rows[:3, :64])
    report = convert(source, tmp_path / "target", 2, "calibrated", calibration=given).calibration
    assert report is not None
    assert report["layers"][0]["refined"]
    assert report["layers"][0]["error"] < 0.8 * report["layers"][0]["error_merged"]
    assert not report["whole_model_in_memory"]
    for name, folder in (("loss_before", source), ("loss_after", tmp_path / "target")):
        with torch.no_grad():
            losses = [float(load(folder)(row[None], labels=row[None]).loss) for row in rows[:3, :64]]
        assert report[name] == pytest.approx(sum(losses) / 3, abs=1e-4)  # float32
    assert report["loss_after"] < 3  # of bytes drawn evenly it would be 5.5; the mean of the heads gives 4
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    assert not list(tmp_path.glob(".*"))


def test_goes_on_after_an_interruption(tmp_path: Path) -> None:
    source = save(make_model("llama", N_KV), tmp_path / "source")
    convert(source, tmp_path / "whole", K, "calibrated", calibration=calibration())

    def stop(report: Any, n_layers: int) -> None:
        if report.layer == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "target", K, "calibrated", calibration=calibration(), layer_done=stop)
    assert not (tmp_path / "target").exists()
    assert (tmp_path / ".target.calibrated").is_dir()
    seen: list[int] = []

    def note(report: Any, n_layers: int) -> None:
        seen.append(report.layer)

    report = convert(source, tmp_path / "target", K, "calibrated", calibration=calibration(), layer_done=note)
    assert seen == [2]
    assert report.calibration is not None
    assert [layer["layer"] for layer in report.calibration["layers"]] == [0, 1, 2]
    assert not list(tmp_path.glob(".*"))
    for name, tensor in tensors_of(tmp_path / "whole").items():
        np.testing.assert_allclose(tensors_of(tmp_path / "target")[name], tensor, rtol=0, atol=1e-5, err_msg=name)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    model = make_model("llama", N_KV)
    source = save(model, tmp_path / "source")
    foreign = Calibration(TOKENS + VOCAB - int(TOKENS.max()), "another tokenizer's")
    for match, options in (
        ("calibration belongs to pool calibrated", {"pool": "calibrated"}),
        ("calibration belongs to pool calibrated", {"pool": "mean", "calibration": calibration()}),
        ("has token 131, the model's vocabulary has 131", {"pool": "calibrated", "calibration": foreign}),
    ):
        with pytest.raises(ValueError, match=match):
            convert(source, tmp_path / "target", K, **options)
    with pytest.raises(ValueError, match="must have at least 32 tokens, got 23"):
        Calibration(TOKENS[:1], "a line")
    with torch.no_grad():
        attentions(model)[1].k_proj.weight[3, 5] = torch.nan
    broken = save(model, tmp_path / "broken")
    with pytest.raises(ValueError, match="NaN or infinity: it cannot be merged"):
        convert(broken, tmp_path / "target", K, "calibrated", calibration=calibration())
    assert {p.name for p in tmp_path.iterdir()} == {"source", "broken"}


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        (b"", (), "is empty"),
        (b"\xff\xfe\x00", (), "is not UTF-8 text"),
        (b"a\x00b", (), "is not text: it holds zero bytes"),
        (b"too short", (), "has 9 tokens, at least 32 are needed"),
        (b"x" * 99, ("--tokens", "31"), "--tokens must be at least 32, got 31"),
        (b"x" * 99, ("--device", "abacus"), "--device must be one that torch has here, got 'abacus'"),
        (b"x" * 99, ("--pool", "mean"), "--calibration belongs to --pool calibrated, got --pool mean"),
    ],
)  # fmt: skip
def test_command_refuses(
    content: bytes, options: tuple[str, ...], match: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from attention.cli import main

    text = tmp_path / "text"
    text.write_bytes(content)
    folder = save(make_model("llama", N_KV, vocab_size=256), tmp_path / "source")
    arguments = ["convert", str(folder), str(tmp_path / "target"), "--n-kv-heads", "3", "--pool", "calibrated"]
    assert main([*arguments, "--calibration", str(text), *options]) == 2
    assert match in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"source", "text"}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from attention.cli import main

    folder = save(make_model("llama", N_KV, vocab_size=256), tmp_path / "source")
    arguments = ["convert", str(folder), str(tmp_path / "target"), "--n-kv-heads", "3", "--pool", "calibrated"]
    assert main([*arguments, "--tokens", "240", "--refine", "0", "--evaluate", "--check"]) == 0
    lines = capsys.readouterr().out
    # opened in a fresh process, it writes what it writes here
    prompt = torch.tensor([list(PROMPT_TEXT.encode())])
    written = load(tmp_path / "target").generate(prompt, do_sample=False, max_new_tokens=N_TOKENS, pad_token_id=0)
    assert f"LlamaForCausalLM with 3 K/V heads wrote tokens {written[0, prompt.shape[1] :].tolist()}" in lines
    assert "pooled by calibrated" in lines
    assert "240 tokens of pydoc_data.topics, three topics of four" in lines
    assert "held-out tokens, before any training" in lines


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    folder = save(make_model("llama", N_KV, vocab_size=256), tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(
        ValueError, match=r"cannot serve .*broken from a fresh process: .* missing keys, model.layers.3"
    ):
        check(folder)
