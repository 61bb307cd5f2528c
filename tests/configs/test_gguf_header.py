"""The header of a GGUF file: what is kept of it, its bounds, and files whose header states something untrue."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attention.catalog.sources import resolve
from attention.configs import gguf_header
from attention.configs.gguf import load
from attention.configs.gguf_header import MAX_BYTES, MAX_ITEMS, MAX_LIST, TENSORS, read
from attention.configs.reader import spec_from_config
from tests.gguf_files import Typed, header, of, text

SIZES = {"block_count": 3, "embedding_length": 308, "attention.head_count": 14, "attention.head_count_kv": [7, 7, 2]}
KEYS = of(
    "llama",
    {**SIZES, "attention.causal": True, "rope.freq_base": 10000.0},
    **{"general.name": "a näme", "tokenizer.ggml.tokens": ["a", "", "ccc"] * 5, "tokenizer.ggml.scores": [0.5] * 15},
)
TENSORS_OF = {"token_embd.weight": (308, 101), "blk.0.attn_q.weight": (308, 308), "blk.2.ffn_up_exps.weight": (5, 7, 3)}


def written(folder: Path, data: bytes, name: str = "m.gguf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_are_read(tmp_path: Path, version: int, order: str) -> None:
    keys = read(written(tmp_path, header(KEYS, TENSORS_OF, version=version, order=order) + b"\xff" * 999))
    assert keys["general.name"] == "a näme"
    assert keys["llama.attention.head_count_kv"] == [7, 7, 2]
    assert (keys["llama.attention.causal"], keys["llama.rope.freq_base"]) == (True, 10000.0)
    assert (keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"]) == (15, 15)  # their lengths
    assert keys[TENSORS] == {"token_embd": 308 * 101, "blk.0": 308 * 308, "blk.2 experts": 105}


def test_every_type_of_number_is_read(tmp_path: Path) -> None:
    typed: dict[int, tuple[str, float]]
    typed = {0: ("B", 201), 1: ("b", -3), 2: ("H", 60_000), 3: ("h", -301), 4: ("I", 2**32 - 5), 5: ("i", -(2**31) + 7)}
    typed |= {6: ("f", 0.5), 7: ("B", 1), 10: ("Q", 2**64 - 3), 11: ("q", -(2**63) + 11), 12: ("d", 0.1)}
    path = written(tmp_path, header({f"key.{kind}": Typed(kind, *pair) for kind, pair in typed.items()}))
    assert read(path) == {f"key.{kind}": value for kind, (_, value) in typed.items()}


def test_long_texts_and_arrays_are_stepped_over(tmp_path: Path) -> None:
    n = MAX_LIST + 1
    keys = {"general.long": "x" * 20_000, "general.list": [1] * n, "general.texts": ["a"], "gguf.tensors": 3, "end": 1}
    assert read(written(tmp_path, header(keys))) == {"general.list": n, "general.texts": 1, "end": 1}


def test_the_tensors_data_is_never_read(tmp_path: Path) -> None:
    path = written(tmp_path, header(KEYS))
    with path.open("r+b") as file:
        file.truncate(2**40)  # a hole of a terabyte
    assert read(path)["general.architecture"] == "llama"


def pair(key: str, kind: int, data: bytes) -> bytes:
    """A file of one pair."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(key) + struct.pack("<I", kind) + data


HUGE = struct.pack("<Q", 2**63)
LYING: list[tuple[bytes, str]] = [
    (b"", "the magic at byte 0"),
    (b"PK\3\4 a zip file", "begins with b'PK"),
    (header({}, version=1), "version of this GGUF file must be 2 or 3, got 1"),
    (header({}, version=4), "must be 2 or 3, got 4"),
    (header({}, n_keys=2**63), "number of keys at byte 24 of this GGUF file is 9,223,372,036,854,775,808"),
    (header({}, n_keys=1), "at most 0 fit"),
    (b"GGUF" + struct.pack("<I", 3) + HUGE + bytes(8), "number of tensors"),
    (pair("a", 8, HUGE), "the text of 'a' at byte 45"),
    (pair("a", 9, struct.pack("<I", 4) + HUGE), "the length of 'a'"),
    (pair("a", 9, struct.pack("<IQ", 8, 2) + text("x") + HUGE), "an entry of 'a'"),
    (pair("a", 9, struct.pack("<IQ", 9, 0)), "'a' is an array of arrays"),
    (pair("a", 13, bytes(8)), "'a' has a value of type 13"),
    (pair("a", 9, struct.pack("<IQ", 77, 1) + bytes(8)), "'a' has a value of type 77"),
    (pair("a", 7, b"\7"), "truth value of 'a' at byte 38 of this GGUF file must be 0 or 1, got 7"),
    (pair("", 4, bytes(8)), "a key"),
    (header([("a", 1), ("a", 1)]), "the key 'a' occurs twice"),
    (header({}, {"t": (1,) * 5}), "number of dimensions of 't'"),
    (header({}, {"t": (2**40, 2**40)}), "the tensor 't' has"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "named"), LYING, ids=[named for _, named in LYING])
def test_files_that_lie_are_refused_in_words(tmp_path: Path, data: bytes, named: str) -> None:
    with pytest.raises(ValueError) as refusal:
        read(written(tmp_path, data))
    assert named in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_a_header_beyond_its_bound_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, pair("a", 8, struct.pack("<Q", 2 * MAX_BYTES)))
    with path.open("r+b") as file:
        file.truncate(3 * MAX_BYTES)
    with pytest.raises(ValueError, match="longer than the 67,108,864 bytes"):
        read(path)
    many = written(tmp_path, pair("a", 9, struct.pack("<IQ", 8, MAX_ITEMS + 1)), "many.gguf")
    with many.open("r+b") as file:
        file.truncate(3 * MAX_BYTES)
    with pytest.raises(ValueError, match=r"the length of 'a'.* is 4,000,001; at most 4,000,000 fit"):
        read(many)


def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ValueError, match="is a pipe"):
        resolve(str(tmp_path / "pipe.gguf"))
    with pytest.raises(ValueError, match="is a pipe"):
        read(tmp_path / "pipe.gguf")
    with pytest.raises(ValueError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ValueError, match=r"no file .*folder\.gguf/config\.json"):
        resolve(str(tmp_path / "folder.gguf"))
    with pytest.raises(ValueError, match="there is no file"):
        resolve(str(tmp_path / "missing.gguf"))
    with pytest.raises(ValueError, match=r"general\.architecture is missing"):
        load(written(tmp_path, header({"general.name": "x"})))


WHOLE = header(KEYS, TENSORS_OF)
spec_from_config(
    of("llama", {**SIZES, "attention.head_count_kv": 7})
)  # loads transformers now, so that no example waits for it


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(ValueError):
            read(written(tmp_path, WHOLE[:length]))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_answered_or_refused(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, mask in flips:
        data[at] ^= mask
    with contextlib.suppress(ValueError):
        assert resolve(str(written(tmp_path, bytes(data)))).n_layers >= 1


def test_the_unchanged_file_is_answered(tmp_path: Path) -> None:
    spec = resolve(str(written(tmp_path, WHOLE)))
    assert [layer.n_kv_heads for layer in spec.layers] == [7, 7, 2]
    assert any("expert_count is missing" in note for note in spec.notes)
    assert gguf_header.CACHE in spec.notes
