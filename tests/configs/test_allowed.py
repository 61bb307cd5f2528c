"""Which fields of a pasted file reach a transformers class: the architecture, and nothing that chooses code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attention.configs import registry
from attention.configs.allowed import allowed, names
from attention.configs.hf_classes import config_object
from attention.configs.reader import decoder_part, load_config
from attention.oracle import verify

DATA = Path(__file__).parents[1] / "data"
CONFIGS = {path.stem: load_config(path) for path in sorted((DATA / "configs").glob("*.json"))}
CHOOSES_CODE: dict[str, Any] = {
    "attn_implementation": "owner/repo",
    "_attn_implementation": "owner/repo",
    "_attn_implementation_internal": "owner/repo",
    "experts_implementation": "owner/repo",
    "auto_map": {"AutoModel": "owner/repo--modeling.Model"},
    "quantization_config": {"quant_method": "bitsandbytes"},
    "_name_or_path": "owner/repo",
    "_commit_hash": "x",
    "__class__": "x",
    "to_dict": "x",
}
LLAMA = CONFIGS["meta-llama__Meta-Llama-3.1-8B"]


@pytest.mark.parametrize("name", CHOOSES_CODE)
def test_what_chooses_code_never_reaches_a_class(name: str) -> None:
    made = config_object("llama", {**LLAMA, name: CHOOSES_CODE[name]}, "")
    assert made.to_dict() == config_object("llama", LLAMA, "").to_dict()
    assert "owner/repo" not in json.dumps(made.to_dict())
    assert made._attn_implementation in (None, "eager", "sdpa")


def test_neither_inside_a_part_of_the_file() -> None:
    nested = {"rope_parameters": {"rope_type": "default", "attn_implementation": "owner/repo", "_x": 1}}
    assert allowed(nested, type(config_object("llama", LLAMA, ""))) == {"rope_parameters": {"rope_type": "default"}}


def test_the_check_of_a_pasted_file_asks_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import hub_kernels

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the loader of kernels was asked")

    for name in ("load_and_register_attn_kernel", "get_kernel"):
        if hasattr(hub_kernels, name):
            monkeypatch.setattr(hub_kernels, name, asked)
    config = {**LLAMA, "num_hidden_layers": 2, **{k: v for k, v in CHOOSES_CODE.items() if k != "quantization_config"}}
    assert verify.verify(config, 16).unexplained_bytes == 0


def class_of(stem: str) -> str | None:
    """The model type of a file if transformers has a class for it, else None."""
    _, _, model_type = decoder_part(CONFIGS[stem])
    return registry.find(model_type).oracle_type(model_type)


@pytest.mark.parametrize("stem", [stem for stem in CONFIGS if class_of(stem)])
def test_no_field_that_a_class_has_is_lost(stem: str) -> None:
    from transformers import PretrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    part, _, _ = decoder_part(CONFIGS[stem])
    configuration = CONFIG_MAPPING[str(class_of(stem))]
    fields = set(configuration.__dataclass_fields__) - set(PretrainedConfig.__dataclass_fields__)
    assert fields & set(part) <= names(configuration)
