"""The conversion with bad input: a clear error, the source left as it was, nothing half made."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attention.convert.layouts import LAYOUTS, REFUSED
from attention.convert.run import convert
from tests import convert_source
from tests.convert_source import (
    CONFIG,
    FILES,
    INDEX,
    edit,
    layer,
    refused,
)

source = pytest.fixture(convert_source.source)


@pytest.mark.parametrize("n_kv_heads", [0, -2, 4, 5, 12, 7])
def test_heads_that_do_not_divide(source: Path, n_kv_heads: int) -> None:
    refused(source, r"must divide the model's 6 K/V heads .* one of 1, 2, 3, 6, got", n_kv_heads=n_kv_heads)


@pytest.mark.parametrize("family", REFUSED)
def test_families_without_heads_to_merge(source: Path, family: str) -> None:
    edit(source / "config.json", model_type=family)
    refused(source, f"{family} cannot have fewer K/V heads: .{{40,}}")


@pytest.mark.parametrize(
    ("family", "match"),
    [("unheard_of", "unheard_of is not a family this converter knows: .*llama"), (None, "must state its model_type"),
     (["llama"], "must state its model_type")],
)  # fmt: skip
def test_unknown_family(source: Path, family: object, match: str) -> None:
    edit(source / "config.json", model_type=family)
    refused(source, match)


def test_latent_attention_under_a_known_name(source: Path) -> None:
    edit(source / "config.json", kv_lora_rank=512)
    refused(source, "latent attention")


def test_no_family_is_both_known_and_refused() -> None:
    assert not LAYOUTS.keys() & REFUSED.keys()


@pytest.mark.parametrize("keep", [0, 5, 60, 400, -1])
def test_truncated_shard(source: Path, keep: int) -> None:
    path = source / FILES[1]
    path.write_bytes(path.read_bytes()[:keep])
    refused(source, f"{FILES[1]} is truncated or corrupt")


def _header(path: Path, change: Callable[[Any], Any]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = change(json.loads(data[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def _overlap(header: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, list[int]]]:
    first, second, *_ = [n for n in header if n != "__metadata__"]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    return header


def _wrong_shape(header: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, list[int]]]:
    next(v for k, v in header.items() if k != "__metadata__")["shape"] = [10**6, 10**6]
    return header


@pytest.mark.parametrize(
    "change", [_overlap, _wrong_shape, lambda h: b"{" * 1000, lambda h: b"[1]", lambda h: {**h, "x": 3}]
)
def test_corrupt_header(source: Path, change: Callable[[Any], Any]) -> None:
    _header(source / FILES[0], change)
    refused(source, f"{FILES[0]} is truncated or corrupt")


def test_header_length_of_many_gigabytes(source: Path) -> None:
    path = source / FILES[0]
    path.write_bytes(struct.pack("<Q", 2**40) + path.read_bytes()[8:])
    refused(source, "truncated or corrupt")


def test_pickle_under_another_name(source: Path) -> None:
    torch.save(layer(0), source / FILES[0])
    refused(source, "truncated or corrupt")


def test_missing_shard(source: Path) -> None:
    (source / FILES[1]).unlink()
    refused(source, f"{FILES[1]} is missing: the checkpoint is not complete")


@pytest.mark.parametrize(
    "name",
    ["../elsewhere/x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\b", "a\0b", 7, None, ["x"]],
)
def test_index_that_names_files_outside(source: Path, name: object, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    save_file(layer(1), tmp_path / "elsewhere" / "x.safetensors")
    index = json.loads((source / INDEX).read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], FILES[0]) | {"model.layers.1.x": name}
    (source / INDEX).write_text(json.dumps(index))
    refused(source, "must be a file name inside the folder|names")


@pytest.mark.parametrize("name", [FILES[0], "config.json", "tokenizer.json"])
def test_link_that_leads_outside(source: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = tmp_path / "elsewhere" / "file"
    outside.write_bytes((source / name).read_bytes() if (source / name).exists() else b"{}")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(outside)
    refused(source, "is a link to .* outside the checkpoint's folder")


def test_hub_cache_layout(source: Path, tmp_path: Path) -> None:
    """A snapshot of the Hugging Face cache consists of links into the repository's own blobs."""
    repository = tmp_path / "models--x--y"
    snapshot_dir = repository / "snapshots" / "abc123"
    snapshot_dir.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        (repository / "blobs" / str(number)).write_bytes(path.read_bytes())
        (snapshot_dir / path.name).symlink_to(f"../../blobs/{number}")
    report = convert(snapshot_dir, tmp_path / "target", 2)
    assert report.n_kv_heads_after == 2
    assert not any(p.is_symlink() for p in (tmp_path / "target").iterdir())


def test_index_that_does_not_fit_its_shards(source: Path) -> None:
    index = json.loads((source / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = FILES[0]
    (source / INDEX).write_text(json.dumps(index))
    refused(source, r"says model\.norm\.weight is in .*, but it is not there")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"weight_map": {}}', '{"weight_map": 3}', "{" * 9999])
def test_broken_index(source: Path, text: str) -> None:
    (source / INDEX).write_text(text)
    refused(source, INDEX.replace(".", r"\."))


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff\xfe", '{"a":' * 99_999])
def test_broken_config(source: Path, text: str) -> None:
    (source / "config.json").write_text(text, encoding="latin-1")
    refused(source, r"config\.json")


def test_missing_config(source: Path) -> None:
    (source / "config.json").unlink()
    refused(source, r"config\.json' cannot be read: No such file")


def test_same_tensor_in_two_shards(source: Path) -> None:
    save_file(layer(0) | layer(1), source / FILES[1])
    refused(source, "is in both")


def test_missing_layer(source: Path) -> None:
    edit(source / "config.json", num_hidden_layers=3)
    refused(source, r"layer 2 has no tensor …layers\.2\.self_attn\.k_proj\.weight")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [("num_attention_heads", 7, "do not split into 7 query heads"), ("num_attention_heads", 0, "_heads must be"),
     ("num_attention_heads", "12", "_heads must be"), ("num_attention_heads", True, "_heads must be"),
     ("head_dim", 12, "says head_dim = 12, but the tensors have 10"),
     ("num_key_value_heads", 3, "says num_key_value_heads = 3, but the tensors have 6")],
)  # fmt: skip
def test_config_that_contradicts_the_tensors(source: Path, field: str, value: object, match: str) -> None:
    edit(source / "config.json", **{field: value})
    refused(source, match)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [(layer(1, v_proj=40), "60 and 40 rows"), (layer(1, k_proj=30, v_proj=30), "layers differ"),
     (layer(1, k_proj=61, v_proj=61), "do not split")],
)  # fmt: skip
def test_layers_of_odd_shapes(source: Path, tensors: dict[str, torch.Tensor], match: str) -> None:
    save_file(tensors, source / FILES[1])
    refused(source, match)


def test_quantised_projections(source: Path) -> None:
    tensors = layer(1)
    tensors["model.layers.1.self_attn.k_proj.weight_scale"] = torch.ones(1)
    save_file(tensors, source / FILES[1])
    refused(source, "belongs to a quantised projection")
    save_file({n: t.to(torch.float8_e4m3fn) for n, t in layer(1).items()}, source / FILES[1])
    refused(source, "stored as F8_E4M3: a quantised checkpoint")


def test_quantised_experts_are_copied(source: Path) -> None:
    """gpt-oss keeps its experts in four bits and its attention in bf16: bytes that are only copied may be anything."""
    blocks = torch.arange(11, dtype=torch.uint8)
    scales = torch.ones(5).to(torch.float8_e4m3fn)
    save_file(layer(1) | {"model.layers.1.mlp.blocks": blocks, "model.layers.1.mlp.scales": scales}, source / FILES[1])
    target = source.parent / "target"
    convert(source, target, 3)
    new = load_file(target / FILES[1])
    assert torch.equal(new["model.layers.1.mlp.blocks"], blocks)
    assert new["model.layers.1.mlp.scales"].dtype == torch.float8_e4m3fn
    refused(source, "stored as F8_E4M3", source.parent / "target" / ".." / "other", dtype="bf16")


def test_pickle_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (source / "config.json").write_text(json.dumps(CONFIG))
    refused(source, r"pickle \(pytorch_model\.bin\).*save_pretrained")
    (source / "pytorch_model.bin").unlink()
    refused(source, r"holds neither model\.safetensors")


def test_source_that_is_no_folder(source: Path) -> None:
    for wrong in (source / "nothing", source / "config.json"):
        with pytest.raises(ValueError, match="is not a folder"):
            convert(wrong, source.parent / "target", 2)


def test_places_inside_each_other(source: Path, tmp_path: Path) -> None:
    for target in (source, source / "target", tmp_path, source / ".." / "source" / "x"):
        refused(source, "must be apart", target)
    (tmp_path / "elsewhere").symlink_to(source)
    refused(source, "must be apart", tmp_path / "elsewhere" / "target")


def test_target_that_is_taken(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    refused(source, "is not empty")
    (target / "mine.txt").unlink()
    convert(source, target, 2)  # an empty folder will do
    with pytest.raises(ValueError, match="is not empty"):
        convert(source, target, 2)
    assert (target / "config.json").exists()


@pytest.mark.parametrize(
    ("option", "match"), [({"pool": "median"}, "pool must be one of"), ({"dtype": "int4"}, "dtype")]
)
def test_bad_options(source: Path, option: dict[str, Any], match: str) -> None:
    refused(source, match, **option)
