"""A program that asks SGLang for the sizes of its pools: a JSON object per line in, one out.

``ask_sglang`` makes the requests. SGLang's own code reads config.json (heads, latents, windows, states, dtypes),
takes the states' share of the memory and counts the slots. Substitutes are the settings that a server would have
(``_settings``) and the packages in STUBBED, which belong to kernels and media. The program runs as a file and imports
nothing of Headshare.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import re
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STUBBED = frozenset(
    {"IPython", "cuda", "flashinfer", "sgl_kernel", "soundfile", "timm", "torch_memory_saver", "torchaudio"}
    | {"torchcodec", "torchvision", "tvm_ffi"}
)
"""Packages that SGLang imports and that its memory arithmetic does not call."""
ARCHITECTURES = {
    "llama4": "Llama4ForConditionalGeneration",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "kimi_k25": "KimiK25ForConditionalGeneration",
}
"""Architectures that published files state where transformers names another class, or none."""


class _Absent(type):
    """The type of everything in a stubbed package."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent

    def __call__(cls, *args: Any, **_: Any) -> Any:
        # a decorator gives back what it decorates
        return args[0] if args and callable(args[0]) else cls


class Absent(metaclass=_Absent):
    """Stands for every class and function of a stubbed package."""


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages in STUBBED where they are not installed. It is asked last."""

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in STUBBED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = _Module(spec.name)
        vars(module)["__version__"] = "0"  # transformers compares it with the versions that it needs
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _of(module: str) -> Any:
    """A module of SGLang. It is imported when it is needed, so that this file can be imported without SGLang."""
    return importlib.import_module(module)


_SETTINGS: dict[str, Any] = {}
"""The settings by SGLang's name for their group, as ``_settings`` makes them."""


def _settings(request: dict[str, Any]) -> dict[str, Any]:
    """The settings that SGLang's memory code reads, with a server's defaults; the request states the others."""
    return {
        "schedule": SimpleNamespace(
            swa_full_tokens_ratio=request["window_ratio"] / 1000,
            mamba_full_memory_ratio=request["state_ratio"] / 1000,
            page_size=request["page"],
            max_running_requests=None,
            max_total_tokens=None,
            max_mamba_cache_size=None,
            disable_overlap_schedule=False,
            chunked_prefill_size=8192,
        ),
        "memory": SimpleNamespace(
            enable_unified_memory=False,
            enable_hisparse=False,
            disable_radix_cache=False,
            enable_hierarchical_cache=False,
            enable_unified_cache_external_linker=False,
        ),
        "parallel": SimpleNamespace(
            tp_size=request["tp"],
            attn_tp_size=request["tp"],
            attn_tp_rank=0,
            attn_dcp_size=1,
            attn_cp_size=1,
            pp_size=1,
            dcp_size=1,
            enable_cp_tp_group_sharing=False,
            enable_kv_cache_sharding=False,
            enable_dsa_cache_layer_split=False,
        ),
        "exec": SimpleNamespace(
            kernel=SimpleNamespace(
                dsa_prefill_backend="flashmla_sparse", dsa_decode_backend="flashmla_kv", dsv4_attn_backend=None
            ),
            mamba=SimpleNamespace(
                enable_linear_replayssm_spec=False,
                enable_mamba_extra_buffer=False,
                enable_mamba_extra_buffer_lazy=False,
            ),
        ),
        "disagg": SimpleNamespace(disaggregation_mode="null", disaggregation_decode_extra_slots=0),
        "spec": SimpleNamespace(speculative_algorithm=None, speculative_num_draft_tokens=None),
        "model": SimpleNamespace(qsa_indexer_dtype=None),
    }


class _Context:
    """Takes over what SGLang sets while it counts."""

    @staticmethod
    def override(_: str, **fields: Any) -> None:
        vars(_SETTINGS["schedule"]).update(fields)


def prepare() -> None:
    """Put the stubs and the settings in their places. Other modules of SGLang import the settings by name, so this
    comes before them."""
    sys.meta_path.append(Stubs())
    runtime = _of("sglang.srt.runtime_context")
    for name in ("schedule", "memory", "parallel", "exec", "disagg", "spec", "model"):
        setattr(runtime, f"get_{name}", lambda name=name: _SETTINGS[name])
    runtime.get_context = _Context
    for module in ("model_executor.pool_configurator", "mem_cache.kv_cache_configurator", "configs.model_config"):
        _of(f"sglang.srt.{module}")


def _architecture(kind: str) -> str:
    """The class of a published model of this type, "" where transformers has none."""
    auto = _of("transformers.models.auto.modeling_auto")
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    for names in (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        if kind in names:
            return str(names[kind]) if isinstance(names[kind], str) else str(names[kind][0])
    return ""


def classes() -> set[str]:
    """The names of all classes in SGLang's folder of models."""
    folder = Path(_of("sglang").__file__).parent / "srt" / "models"
    return {
        name for file in folder.glob("*.py") for name in re.findall(r"^class (\w+)", file.read_text(), re.MULTILINE)
    }


def _configurator(model: Any, request: dict[str, Any]) -> Any:
    """An object with the attributes of SGLang's KVCacheConfigurator that its arithmetic reads."""
    torch, arch = _of("torch"), _of("sglang.srt.configs.model_config").AttentionArch
    hybrid, layers = (
        _of("sglang.srt.configs.hybrid_arch"),
        _of("sglang.srt.model_executor.model_runner_components.layer_setup"),
    )
    held = layers.ModelLayerInfo(
        start_layer=0,
        end_layer=model.num_hidden_layers,
        num_effective_layers=model.num_hidden_layers * max(1, layers._get_loop_num(model.hf_config)),
        swa_attention_layer_ids=model.swa_attention_layer_ids,
        full_attention_layer_ids=model.full_attention_layer_ids,
    )
    return SimpleNamespace(
        model_config=model,
        kv_cache_dtype={"fp8": torch.float8_e4m3fn, "fp32": torch.float32}.get(request["kv_dtype"], torch.bfloat16),
        kv_cache_dtype_str=None,
        model_dtype=torch.bfloat16,
        page_size=request["page"],
        sliding_window_size=model.sliding_window_size,
        is_draft_worker=False,
        is_hybrid_swa=model.is_hybrid_swa,
        use_mla_backend=model.attention_arch == arch.MLA,
        spec_algorithm=_of("sglang.srt.speculative.spec_info").SpeculativeAlgorithm.NONE,
        spec_aux_config=SimpleNamespace(eagle_draft_num_layers=None, dflash_draft_num_layers=None),
        server_args=SimpleNamespace(enable_hisparse=False, enable_kv_cache_sharding=False),
        layer_info=held,
        pp_size=1,
        attn_dp_size=1,
        fused_entry_bytes=lambda _: None,
        extra_mamba_cache_bytes_per_req=0,
        dflash_draft_cell_size_per_token=None,
        mambaish_config=hybrid.mambaish_config(model),
        hybrid_gdn_config=hybrid.hybrid_gdn_config(model),
        hybrid_kda_config=hybrid.hybrid_kda_config(model),
    )


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """SGLang's pools for a request, or {"refused": why}."""
    try:
        config = {**request["config"]}
        config.setdefault("architectures", [_architecture(config["model_type"])])
        if not config["architectures"][0]:
            return {"refused": f"SGLang reads {config['model_type']} with the code of the model's repository alone"}
        if config["architectures"][0] not in classes():
            return {"refused": f"SGLang has no class {config['architectures'][0]}"}
        _SETTINGS.update(_settings(request))
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
            model = _of("sglang.srt.configs.model_config").ModelConfig(model_path=folder, dtype="bfloat16")
        pools = _of("sglang.srt.model_executor.pool_configurator")
        configurator = _configurator(model, request)
        rest, states = request["memory"] / 2**30, None
        if configurator.mambaish_config is not None:
            counted = _of("sglang.srt.mem_cache.kv_cache_configurator").KVCacheConfigurator
            rest = counted._handle_max_mamba_cache(configurator, rest)
            states = _SETTINGS["schedule"].max_mamba_cache_size
        if is_compressed(model):
            return {"refused": "compressed caches are not asked for here"}
        counts = pools.create_memory_pool_configurator(configurator)
        sizes = counts.calculate_pool_sizes(int(rest * 2**30), request["page"])
        return {
            "tokens": sizes.max_total_num_tokens if counts._cell_size else 0,
            "window_tokens": sizes.swa_max_total_num_tokens or 0,
            "states": states or 0,
        }
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:200]}


def is_compressed(model: Any) -> bool:
    """Whether SGLang gives the model DeepSeek-V4's pools."""
    return bool(_of("sglang.srt.configs.model_config").is_deepseek_v4(model.hf_config))


def main() -> None:
    from importlib.metadata import version

    prepare()
    print(json.dumps({"version": version("sglang")}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
