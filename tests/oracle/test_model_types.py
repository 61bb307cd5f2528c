"""Every model type of the installed transformers is answered with what its own code keeps, or rightly refused."""

from __future__ import annotations

import os

import pytest

from attention.configs import hf_classes, registry
from attention.configs.reader import spec_from_config
from attention.configs.refused import REFUSED
from attention.oracle.verify import verify
from tests.model_types import small, types, written

ALL = os.environ.get("HEADSHARE_ALL_TYPES") == "1"
CONTEXTS = (37, 131)
"""Below and above the windows of the small models (61)."""
SAMPLE = (
    *("llama", "bert", "bart", "t5gemma", "led", "whisper", "trocr", "prophetnet", "zaya", "inkling_text"),
    *("dots3_note_text", "git", "cpmant", "gemma4_text"),
)
SIZES = {
    "bamba": "attn_layer_indices",  # all its layers would be Mamba; its files say which are not
    "lfm2_moe": "layer_types",
    "glm4_moe": "head_dim",  # 4096 over 96 heads
    "glm4v_moe": "head_dim",
    "qwen3_omni_moe": "head_dim",
    "qwen3_omni_moe_thinker": "head_dim",
}
"""Types that are refused with their class's defaults, because these leave out a field that published files state. The
value is the field that the refusal names."""
CANNOT_BE_ASKED = {
    **dict.fromkeys(
        (
            *("qwen3_omni_moe_text", "ernie4_5_vl_moe_text", "emu3_text_model", "paddleocr_vl_text"),
            *("granite4_vision_text", "deepseek_ocr2_text", "qwen2_5_omni_text", "kosmos_2_text_model"),
            *("kosmos_2_5_text_model", "mllama_text_model", "pix2struct_text_model", "pp_formulanet_text"),
        ),
        "alone",
    ),
    **dict.fromkeys(("biogpt", "big_bird", "megatron-bert", "rembert", "roformer", "longcat_flash"), "item"),
    **dict.fromkeys(("switch_transformers", "nllb-moe"), "expert_tensor"),
    "voxtral_realtime_text": "VoxtralRealtimeTextModel",
    "jetmoe": "copy out of meta",
    "dots1": "empty",
    "xmod": "language",
    "udop": "attention_mask",
    # the class's defaults do not fit together
    "glm4v_text": "split_with_sizes",
    "hunyuan_vl_text": "NoneType",
    "cohere_compass_text": "full_attention",
}
"""Types whose code cannot be asked here, with a word of the reason: it looks at values, which meta tensors do not have,
or transformers only builds it as part of a larger model."""


def asked() -> list[str]:
    """Types that are read and whose own code transformers has under the same name."""
    return sorted(name for name, adapter in registry.ADAPTERS.items() if adapter.oracle_type(name) == name)


def refusal(model_type: str) -> str:
    """Why the configuration that transformers itself writes for the type is refused; "" where it is answered."""
    try:
        spec_from_config(written(model_type))
    except ValueError as error:
        return str(error)
    return ""


def test_every_type_that_writes_text_is_answered_or_refused_with_a_true_reason() -> None:
    writes = sorted(hf_classes.text_generators() & set(types()))
    reasons = {name: refusal(name) for name in writes}
    refused = {name: text for name, text in reasons.items() if text}
    untrue = {
        name: text
        for name, text in refused.items()
        if not any(why in text for why in REFUSED.values())
        and "unless the file states is_decoder" not in text
        and SIZES.get(name, "\0") not in text
    }
    assert not untrue
    assert len(types()) >= 800
    assert len(writes) >= 310
    assert len(writes) - len(refused) >= 250


def test_types_that_write_no_text_are_not_called_unknown() -> None:
    others = [name for name in types() if name not in hf_classes.text_generators() and name not in registry.ADAPTERS]
    assert len(others) > 300
    for name in others:
        with pytest.raises(ValueError, match=r"refused|text_config is missing"):
            registry.find(name)


@pytest.mark.parametrize("model_type", asked() if ALL else SAMPLE)
def test_a_small_model_of_the_type_keeps_what_is_computed(model_type: str) -> None:
    """With HEADSHARE_ALL_TYPES=1 every type is tried (five minutes)."""
    config = {**small(model_type), "dtype": "bfloat16"}
    for context in CONTEXTS:
        if model_type in CANNOT_BE_ASKED:
            with pytest.raises(ValueError, match=CANNOT_BE_ASKED[model_type]):
                verify(config, context, model_type)
            continue
        found = verify(config, context, model_type)
        assert found.unexplained_bytes == 0, [c for c in found.layers if c.difference and not c.explanation][:3]
        assert found.allocated_bytes > 0


def test_what_cannot_be_asked_is_a_small_part() -> None:
    assert set(CANNOT_BE_ASKED) <= set(asked())
    assert len(CANNOT_BE_ASKED) < 0.2 * len(asked())
