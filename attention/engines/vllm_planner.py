"""A program that asks vLLM's planner for plans. It reads requests and writes answers, one JSON object per line.

``ask_vllm.request`` makes the requests. vLLM's own code makes the specs of layers, the groups, the layout, the enlarged
block of models with recurrent states, the blocks, the tokens and the concurrency. Only the configuration object is a
substitute, with the attributes that this code reads. The program runs as a file and imports nothing of Headshare.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any


def _of(module: str) -> Any:
    """A module of vLLM, or torch. It is imported when it is needed, so that this file can be imported without them."""
    return importlib.import_module(module)


def _layers(request: dict[str, Any], model: Any, block: int, padded: int | None) -> dict[str, Any]:
    """vLLM's spec of each layer by name, as the layer classes of vLLM make it."""
    torch = _of("torch")
    MLACommonBackend = _of("vllm.model_executor.layers.attention.mla_attention").MLACommonBackend
    kv_cache_dtype_str_to_dtype = _of("vllm.utils.torch_utils").kv_cache_dtype_str_to_dtype
    kv = _of("vllm.v1.kv_cache_interface")

    quantised, backend = request["cache_dtype"], _backend(request["cache_dtype"])
    mode = kv.get_kv_quant_mode(quantised)
    stored = kv_cache_dtype_str_to_dtype(quantised, model)
    found: dict[str, Any] = {}
    for i, layer in enumerate(request["layers"]):
        kind, name = layer["kind"], f"model.layers.{i}"
        if kind == "state":
            shapes, kinds = tuple(map(tuple, layer["shapes"])), tuple(getattr(torch, one) for one in layer["dtypes"])
            found[name] = kv.MambaSpec(
                shapes=shapes,
                dtypes=kinds,
                block_size=request["max_model_len"],
                page_size_padded=padded,
                mamba_cache_mode=request["mamba_cache_mode"],
                num_speculative_blocks=request["draft_tokens"],
            )
            continue
        if kind in ("latent", "indexer"):
            record = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}.get(quantised) if kind == "latent" else None
            latent = kv.MLAAttentionSpec(
                block_size=block,
                num_kv_heads=1,
                max_tp_shards=1,
                head_size=layer["size"],
                dtype=stored if kind == "latent" else torch.uint8,
                cache_dtype_str=quantised if kind == "latent" else None,
                kv_quant_mode=mode if kind == "latent" else kv.KVQuantMode.NONE,
                state_content_bytes=record,
                cache_role=kv.SparseCacheRole.SPARSE if kind == "latent" else kv.SparseCacheRole.INDEXER,
            )
            found[name] = MLACommonBackend.customize_spec(latent) if kind == "latent" else latent
            continue
        common = {
            "block_size": block,
            "num_kv_heads": layer["heads"],
            "head_size": layer["k"],
            "head_size_v": layer["v"],
            "dtype": stored,
            "kv_quant_mode": mode,
        }
        if kind == "full":
            spec: Any = kv.FullAttentionSpec(**common)
        elif kind == "window":
            spec = kv.SlidingWindowSpec(**common, sliding_window=layer["window"])
        else:
            spec = kv.ChunkedLocalAttentionSpec(**common, attention_chunk_size=layer["window"])
        found[name] = backend.customize_spec(spec)
    return found


def _enlarged(request: dict[str, Any], config: Any) -> None:
    """Let vLLM enlarge the attention block of a model with recurrent states, in ``config.cache_config``."""
    ModelRegistry = _of("vllm.model_executor.models").ModelRegistry
    Platform = _of("vllm.platforms.interface").Platform

    states = [layer for layer in request["layers"] if layer["kind"] == "state"]
    others = [layer for layer in request["layers"] if layer["kind"] != "state"]
    if not states or not others:
        return
    torch = _of("torch")

    backend = _backend(request["cache_dtype"])

    class Model:
        @staticmethod
        def get_mamba_specs_from_config(_: Any) -> list[Any]:
            MambaSpec = _of("vllm.v1.kv_cache_interface").MambaSpec

            return [
                MambaSpec(
                    shapes=tuple(map(tuple, layer["shapes"])),
                    dtypes=tuple(getattr(torch, one) for one in layer["dtypes"]),
                    block_size=-1,
                )
                for layer in states
            ]

    found = {"_find_non_ssm_backends": classmethod(lambda cls, _: [backend])}
    asked: Any = type("Asked", (Platform,), found)

    first = others[0]
    config.model_config.use_mla = first["kind"] == "latent"
    config.model_config.get_num_kv_heads = lambda _: first.get("heads", 1)
    config.model_config.get_num_attention_heads = lambda _: request["n_heads"]
    config.model_config.get_head_size = lambda: first.get("k", first.get("size"))
    kept = ModelRegistry.resolve_model_cls
    ModelRegistry.resolve_model_cls = lambda *_, **__: (Model, "")
    try:
        asked._align_hybrid_block_size(config, backend)
    finally:
        ModelRegistry.resolve_model_cls = kept


def _config(request: dict[str, Any]) -> Any:
    """An object with the attributes of vLLM's configuration that its planner reads."""
    torch = _of("torch")
    CacheConfig = _of("vllm.config.cache").CacheConfig

    cache = CacheConfig(block_size=request["block"], cache_dtype=request["cache_dtype"])
    cache.mamba_cache_mode = request["mamba_cache_mode"]
    length = request["max_model_len"]
    return SimpleNamespace(
        model_config=SimpleNamespace(
            max_model_len=length,
            original_max_model_len=length,
            supports_kv_cache_grouping=False,
            dtype=getattr(torch, request["dtype"]),
            architecture="asked",
            use_mla=False,
        ),
        cache_config=cache,
        parallel_config=SimpleNamespace(
            tensor_parallel_size=1, decode_context_parallel_size=1, prefill_context_parallel_size=1
        ),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=not request["hybrid_manager"]),
        attention_config=SimpleNamespace(hisparse_config=None),
        compilation_config=SimpleNamespace(static_forward_context={}),
        device_config=SimpleNamespace(device_type="cuda"),
        kv_transfer_config=None,
        speculative_config=None,
        num_prefill_lookahead_tokens=0,
        max_in_flight_tokens=request["in_flight"],
    )


def _block(spec: Any) -> int:
    """Tokens of a group's block, 0 for a recurrent state."""
    MambaSpec = _of("vllm.v1.kv_cache_interface").MambaSpec
    iter_layer_specs = _of("vllm.v1.kv_cache_interface").iter_layer_specs

    return 0 if any(isinstance(one, MambaSpec) for one in iter_layer_specs(spec)) else spec.block_size


def _backend(cache_dtype: str) -> Any:
    """The attention backend that a GPU uses for a format; it decides how a head is packed."""
    get_kv_quant_mode = _of("vllm.v1.kv_cache_interface").get_kv_quant_mode

    mode = get_kv_quant_mode(cache_dtype)
    if mode.is_nvfp4:
        FlashInferBackend = _of("vllm.v1.attention.backends.flashinfer").FlashInferBackend

        return FlashInferBackend
    if mode.is_per_token_head:
        TritonAttentionBackend = _of("vllm.v1.attention.backends.triton_attn").TritonAttentionBackend

        return TritonAttentionBackend
    FlashAttentionBackend = _of("vllm.v1.attention.backends.flash_attn").FlashAttentionBackend

    return FlashAttentionBackend


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """vLLM's plan for a request, or {"refused": why}."""
    get_supported_kv_cache_layouts = _of("vllm.v1.attention.backends.utils").get_supported_kv_cache_layouts
    resolve_kv_cache_layout = _of("vllm.v1.attention.backends.utils").resolve_kv_cache_layout
    planning = _of("vllm.v1.core.kv_cache_planning")
    utils = _of("vllm.v1.core.kv_cache_utils")
    get_kv_cache_config_builder = _of("vllm.v1.core.kv_cache_config_builder").get_kv_cache_config_builder

    try:
        config = _config(request)
        _enlarged(request, config)
        specs = _layers(
            request, config.model_config, config.cache_config.block_size, config.cache_config.mamba_page_size_padded
        )
        layouts = [layout.name for layout in get_supported_kv_cache_layouts([_backend(request["cache_dtype"])])]
        layout = resolve_kv_cache_layout(config, [layouts], specs.values())
        groups = planning.get_global_kv_cache_groups(config, [specs])
        plans = planning.get_kv_cache_configs(config, [specs], [request["memory"]], groups)
        plan = utils.generate_scheduler_kv_cache_config(plans)
        tokens, concurrency = utils.get_kv_cache_capacity(config, plan)
        builder = get_kv_cache_config_builder(config)
        return {
            "blocks": plan.num_blocks,
            "tokens": tokens,
            "concurrency": f"{concurrency:.2f}",
            "block_bytes": planning._pool_bytes_per_block_from_builder(builder, config, groups),
            "groups": [[len(group.layer_names), _block(group.kv_cache_spec)] for group in groups],
            "layout": layout.name,
        }
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}


def main() -> None:
    from importlib.metadata import version

    print(json.dumps({"version": version("vllm")}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
