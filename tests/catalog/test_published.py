"""Every row's layers are what its published configuration says, and its facts are stated and agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from attention.catalog import published
from attention.configs.reader import spec_from_config
from attention.memory.footprint import cache_bytes
from attention.spec import DTYPE_BYTES

ROWS = published.models()
WITH_CONFIG = [row for row in ROWS if row.config is not None]


def test_the_catalogue_covers_the_field() -> None:
    assert len(ROWS) >= 190
    families = set(published.families())
    assert {"Llama", "Qwen", "Gemma", "Mistral", "Phi", "Falcon", "StarCoder", "GPT", "OPT", "BLOOM"} <= families
    assert {"DeepSeek", "GLM", "Kimi", "OLMo", "Command", "Granite", "SmolLM", "Jamba", "Nemotron", "T5"} <= families
    kinds = {str(layer.kind) for row in ROWS if row.spec for layer, _ in row.spec.groups}
    assert kinds >= {"full", "sliding", "chunked", "latent", "compressed", "shared", "recurrent", "cross"}


@pytest.mark.parametrize("row", WITH_CONFIG, ids=lambda row: row.id)
def test_a_rows_layers_are_what_its_configuration_says(row: published.ModelRow) -> None:
    assert row.spec is not None
    assert row.config is not None
    read = spec_from_config(row.config, row.id)
    for index, (mine, theirs) in enumerate(zip(row.spec.layers, read.layers, strict=True)):
        assert mine == theirs, f"layer {index}"
    assert row.hidden_size == read.hidden_size
    # where the configuration leaves out the dtype, the row may state one, with a note on where it is from
    assert row.dtype == read.model_dtype or (read.model_dtype is None and row.note)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_states_its_facts(row: published.ModelRow) -> None:
    assert row.source
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.date)
    assert row.lineage >= 1
    assert row.label
    assert row.family
    assert row.generation
    assert row.released is None or re.fullmatch(r"(20[12]\d)-(0[1-9]|1[0-2])", row.released)
    assert row.dtype is None or row.dtype in DTYPE_BYTES
    assert (row.spec is None) == (row.unpublished is not None)
    if row.n_active_parameters:
        assert row.n_parameters is None or row.n_active_parameters < row.n_parameters
    if row.spec is not None:
        # relative positions (T5) and recurrence state no longest context
        assert row.max_context is not None or row.family in ("T5", "Falcon", "MiniMax")
        assert cache_bytes(row.spec, 4099, kv_dtype="bf16").state_bytes > 0
        assert row.spec.name == row.id
        assert row.spec.n_parameters == row.n_parameters


def test_parameter_counts_agree_with_the_names() -> None:
    """The size in a model's name is its count, rounded by its makers. Names that count only a part are left out."""
    partly = {"Mixtral 8x7B", "Mixtral 8x22B", "Qwen1.5-MoE A2.7B"}  # experts counted once, or active ones
    partly |= {row.label for row in ROWS if re.search(r"\bE\dB", row.label)}  # Gemma's effective parameters
    for row in ROWS:
        size = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([MB])\b", row.label)
        if size and row.n_parameters and row.label not in partly:
            named = float(size[1]) * {"M": 1e6, "B": 1e9}[size[2]]
            # Falcon3 1B and MiniCPM 2B leave their large vocabularies out of the name
            assert 0.8 < row.n_parameters / named < 1.7, row.label


def test_names_are_found_however_they_are_spelled() -> None:
    row = published.model("meta-llama/Llama-3.1-8B")
    for name in (
        "llama-3.1-8b",
        " META-LLAMA/LLAMA-3.1-8B ",
        "Llama 3.1 8B",
        "meta-llama/Meta-Llama-3.1-8B",
        "Meta-Llama-3.1-8B-Instruct",
    ):
        assert published.model(name) is row
    assert published.model("google/gemma-3-27b-it").label == "Gemma 3 27B"


def test_a_row_read_alone_is_the_one_that_all_rows_give() -> None:
    names = published.spellings(ROWS)
    assert len(names) > 2 * len(ROWS)
    assert {name: published.find(name) for name in names} == names
    rows = [
        row["id"]
        for path in sorted(Path(published.__file__).with_name("models").glob("*.toml"))
        for row in tomllib.loads(path.read_text())["model"]
    ]
    assert sorted(rows) == sorted(row.id for row in ROWS)


@pytest.mark.parametrize("name", ["", "gpt5", "meta-llama", "Llama", "7B", "../../etc/passwd", "x" * 10_000])
def test_an_unknown_name_never_becomes_a_model(name: str) -> None:
    with pytest.raises(ValueError, match="unknown model"):
        published.model(name)


def test_an_unknown_name_gets_close_ones() -> None:
    with pytest.raises(ValueError, match=r"close to it: .*meta-llama/Llama-3\.1-8B"):
        published.model("Lama 3.1 8B")


def test_gemini_says_what_is_public_and_no_more() -> None:
    row = published.model("Gemini 1.0")
    assert row.spec is None
    assert row.config is None
    assert row.n_parameters is None
    assert row.unpublished is not None
    assert "multi-query" in row.unpublished
    assert "2312.11805" in row.source


def test_rows_come_in_order_of_lineage() -> None:
    order = [(row.family.casefold(), row.lineage) for row in ROWS]
    assert order == sorted(order)
    generations: dict[tuple[str, int], set[str]] = {}
    for row in ROWS:
        generations.setdefault((row.family, row.lineage), set()).add(row.generation)
    assert not {key: names for key, names in generations.items() if len(names) > 1}
    llamas = [row.generation for row in ROWS if row.family == "Llama"]
    assert list(dict.fromkeys(llamas)) == ["1", "2", "Code Llama", "3", "3.1", "3.2", "3.3", "4"]


def test_a_configuration_handed_out_is_a_copy() -> None:
    config = published.model("gpt2").config
    assert config is not None
    config.clear()
    assert published.model("gpt2").config


def test_accelerators_state_dense_peaks_and_plausible_sizes() -> None:
    rows = published.accelerators()
    assert len(rows) >= 20
    assert len({row.id for row in rows}) == len(rows)
    assert {"NVIDIA", "AMD", "Google", "Intel", "Apple"} <= {row.vendor for row in rows}
    for row in rows:
        assert 10**10 <= row.memory_bytes <= 10**12
        assert 5e10 <= row.bytes_per_s <= 2e13
        assert row.source
        assert row.date
        assert set(row.flops_per_s) <= set(DTYPE_BYTES)
        peaks = [row.flops_per_s[d] for d in ("fp32", "bf16", "fp8") if d in row.flops_per_s]
        assert peaks == sorted(peaks), f"{row.id}: narrower types are not slower"
    h100 = published.accelerator("h100-sxm")
    # 1,979 TFLOP/s in the data sheet are with sparsity
    assert (h100.bytes_per_s, h100.flops_per_s["bf16"], h100.memory_bytes) == (3.35e12, 989.5e12, 80 * 10**9)
    with pytest.raises(ValueError, match="unknown accelerator 'H1000'; known are v100-32gb"):
        published.accelerator("H1000")


def test_the_catalogue_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from attention.catalog import published as catalog; from attention.serving import fit, roofline; "
        "from attention.memory import allocation, footprint; "
        "[row.spec for row in catalog.models()]; catalog.accelerators(); "
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
