"""The calibrated conversion of a checkpoint, with one layer at a time in memory and every finished layer on the disk.

The model is built without weights. A layer's weights are read when it runs and dropped afterwards. This is not possible
for a family whose code joins several of a checkpoint's tensors in one (experts): such a model is loaded whole, and the
report says so. Until the conversion is done, finished layers are in a hidden folder beside the target, one file a
layer. If a run is killed, the next run continues from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attention.convert import attention_module as modules
from attention.convert import checkpoint as ckpt
from attention.convert.around_layers import embed, mean_loss
from attention.convert.calibration import InMemory, Shape, calibrate
from attention.convert.layouts import layout_of
from attention.convert.loaded import n_rotated
from attention.convert.plan import Piece, Plan, Planned, Span
from attention.convert.refine import LayerReport, Settings

MIN_TOKENS = 32

LayerDone = Callable[[LayerReport, int], None]
"""Called after each layer with its report and the number of layers."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The text and the settings of a calibrated conversion.

    Attributes:
        tokens: int64[windows, length].
        text: where the tokens come from, in words.
        settings: how to merge.
        device: where the layers run.
        held_out: int64[windows, length], to measure the loss before and after; None measures no loss.

    Raises:
        ValueError: fewer than MIN_TOKENS tokens, or windows of different lengths.
    """

    tokens: Tensor
    text: str
    settings: Settings = field(default_factory=Settings)
    device: str = "cpu"
    held_out: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.numel() < MIN_TOKENS:
            raise ValueError(
                f"the calibration text must have at least {MIN_TOKENS} tokens, got {self.tokens.numel()} ({self.text})"
            )
        if self.held_out is not None and self.held_out.shape[1:] != self.tokens.shape[1:]:
            raise ValueError("held_out must have windows as long as those of tokens")


@dataclass(frozen=True)
class Calibrated:
    """The result: a plan that reads the merged layers, and the figures for the report."""

    plan: Plan
    report: dict[str, Any]


def scratch_of(target: Path) -> Path:
    """The folder of finished layers while a conversion to `target` runs."""
    return target.parent / f".{target.name}.calibrated"


def scratch_bytes(plan: Plan) -> int:
    """Bytes of all merged layers in float32."""
    return sum(4 * t.n_elements for layer in plan.attention.values() for t in layer.values())


def calibrate_plan(plan: Plan, calibration: Calibration, target: Path, layer_done: LayerDone) -> Calibrated:
    """Merge every layer of the planned conversion on the calibration text.

    Raises:
        ValueError: tokens outside the vocabulary, a layer that cannot be merged, or weights that do not fit
            transformers' own code.
        OSError: the disk is full.
    """
    folder = scratch_of(target)
    facts = _facts(plan, calibration)
    reports = _resumed(folder, facts)
    try:
        whole, losses = _all_layers(plan, calibration, folder, reports, layer_done)
    except (ValueError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    settings = calibration.settings
    n_tokens = calibration.tokens.numel()
    width = plan.head_dim * plan.n_kv_heads
    report = {
        "text": calibration.text,
        "tokens": n_tokens,
        "windows": list(calibration.tokens.shape),
        "short": n_tokens < 2 * width,
        "grouping": settings.grouping,
        "refine_steps": settings.refine_steps,
        "whole_model_in_memory": whole,
        "layers": [asdict(reports[i]) for i in sorted(reports)],
        **losses,
    }
    return Calibrated(_with_layers(plan, folder), report)


def _facts(plan: Plan, calibration: Calibration) -> dict[str, Any]:
    """What a finished layer depends on. With another source, text or setting a run starts from the beginning."""
    digest = hashlib.sha256(calibration.tokens.numpy().tobytes())
    files = [(s.name, s.path.stat().st_size, s.path.stat().st_mtime_ns) for s in plan.source.shards]
    return json.loads(
        json.dumps(
            {
                "source": str(plan.source.folder.resolve()),
                "files": files,
                "n_kv_heads": plan.new_n_kv_heads,
                "tokens": [*calibration.tokens.shape, digest.hexdigest()],
                "settings": asdict(calibration.settings),
            }
        )
    )


def _resumed(folder: Path, facts: dict[str, Any]) -> dict[int, LayerReport]:
    """The layers that an earlier run of the same conversion finished. Layers of another conversion are removed."""
    try:
        if json.loads((folder / "facts.json").read_text()) == facts:
            found: dict[int, LayerReport] = {}
            for path in sorted(folder.glob("layer-*.json")):
                report = json.loads(path.read_text())
                report["groups"] = tuple(tuple(g) for g in report["groups"])
                load_file(path.with_suffix(".safetensors"))
                found[report["layer"]] = LayerReport(**report)
            return found
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "facts.json").write_text(json.dumps(facts))
    return {}


def _layer_path(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:05}.safetensors"


def _all_layers(
    plan: Plan, calibration: Calibration, folder: Path, reports: dict[int, LayerReport], layer_done: LayerDone
) -> tuple[bool, dict[str, float]]:
    device = torch.device(calibration.device)
    model, layers, source, whole = _model_of(plan, device)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = (
        calibration.tokens if calibration.held_out is None else torch.cat([calibration.tokens, calibration.held_out])
    )
    if int(tokens.max()) >= vocabulary or int(tokens.min()) < 0:
        raise ValueError(
            f"the text has token {int(tokens.max())}, the model's vocabulary has {vocabulary}: another tokenizer's?"
        )
    tokens = tokens.to(device)
    with source.around():
        hidden, arguments = embed(model.base_model, layers, tokens)
    family, layout = layout_of(plan.source.config)
    rotated = n_rotated(arguments[0], family, plan.head_dim)
    shape = Shape(family, layout, plan.n_heads, plan.n_kv_heads, plan.new_n_kv_heads, rotated)

    def done(report: LayerReport, tensors: dict[str, Tensor]) -> None:
        path = _layer_path(folder, report.layer)
        try:
            save_file({name: t.float().cpu().contiguous() for name, t in tensors.items()}, path)
        except SafetensorError as error:  # the library's own error for a full disk
            raise OSError(errno.EIO, str(error), str(path)) from error
        path.with_suffix(".json").write_text(json.dumps(asdict(report)))
        reports[report.layer] = report
        layer_done(report, len(layers))

    def known(layer: int) -> dict[str, Tensor] | None:
        return load_file(_layer_path(folder, layer)) if layer in reports else None

    n_fit = None if calibration.held_out is None else len(calibration.tokens)
    was, now = calibrate(source, model.config, shape, hidden, arguments, calibration.settings, done, n_fit, known)
    if n_fit is None:
        return whole, {}
    with source.around(head=True):
        before, after = (mean_loss(model, layers, tokens[n_fit:], x[n_fit:]) for x in (was, now))
    return whole, {"held_out_tokens": tokens[n_fit:].numel(), "loss_before": before, "loss_after": after}


class _Streamed:
    """A model without weights, and the checkpoint from which weights are read when they are needed."""

    def __init__(self, model: Any, layers: nn.ModuleList, plan: Plan, device: torch.device) -> None:
        self._model, self._layers, self._tensors, self._device = model, layers, plan.source.tensors, device
        self._names = {id(module): name for name, module in model.named_modules()}

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def at(self, index: int) -> Iterator[nn.Module]:
        with self._filled(self._layers[index]):
            yield self._layers[index]

    @contextmanager
    def around(self, head: bool = False) -> Iterator[None]:
        """Everything but the layers has its weights for as long as the context lasts; the head only with `head`."""
        outer = self._model if head else self._model.base_model
        with self._filled(outer, but=self._names[id(self._layers)]):
            yield

    def missing(self) -> list[str]:
        """Parameters that the checkpoint does not have under the model's own names."""
        tied = set(getattr(self._model, "_tied_weights_keys", None) or ())
        return [
            name
            for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers())
            if tensor.device.type == "meta" and name not in self._tensors and name not in tied
        ]

    @contextmanager
    def _filled(self, module: nn.Module, but: str | None = None) -> Iterator[None]:
        prefix = self._names[id(module)]
        filled: list[tuple[nn.Module, str, Any]] = []
        try:
            for name, part in module.named_modules():
                full = ".".join(filter(None, (prefix, name)))
                if but is not None and (full == but or full.startswith(f"{but}.")):
                    continue
                for last, tensor in (*part._parameters.items(), *part._buffers.items()):
                    if tensor is not None and tensor.device.type == "meta":
                        filled.append((part, last, tensor))
                        value = self._read(f"{full}.{last}", tensor)
                        if last in part._parameters:
                            part._parameters[last] = nn.Parameter(value, requires_grad=False)
                        else:
                            part._buffers[last] = value
            yield
        finally:
            for part, last, tensor in filled:
                (part._parameters if last in part._parameters else part._buffers)[last] = tensor

    def _read(self, name: str, like: Tensor) -> Tensor:
        info = self._tensors.get(name)
        if info is None:  # the head is tied to the embedding
            owner = next(n for n, m in self._model.named_modules() if m is self._model.get_input_embeddings())
            info = self._tensors[f"{owner}.weight"]
        if tuple(info.shape) != tuple(like.shape):
            raise ValueError(f"{name} has shape {info.shape}, the model's code expects {tuple(like.shape)}")
        with info.path.open("rb", buffering=0) as file:
            flat = ckpt.read_elements(file.fileno(), info, 0, info.n_elements)
        return flat.view(info.shape).to(self._device, torch.float32 if flat.is_floating_point() else flat.dtype)


class _Whole(InMemory):
    @contextmanager
    def around(self, head: bool = False) -> Iterator[None]:
        yield


def _model_of(plan: Plan, device: torch.device) -> tuple[Any, nn.ModuleList, Any, bool]:
    """(model, its layers, the source of their weights, whether the model is whole in memory)."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    _, layout = layout_of(plan.source.config)
    folder = plan.source.folder
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
            )
        layers = modules.find_layers(model, layout)
        source = _Streamed(model, layers, plan, device)
        if not source.missing():
            for part in model.modules():  # buffers such as tables of positions are not in the checkpoint
                for name, buffer in part._buffers.items():
                    if buffer is not None and buffer.device.type != "meta":
                        part._buffers[name] = buffer.to(device)
            return model.eval(), layers, source, False
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            attn_implementation="eager", experts_implementation="eager",
        ).to(device).eval().requires_grad_(False)  # fmt: skip
    except (OSError, KeyError) as error:
        raise ValueError(f"transformers cannot load {folder}: {error}") from error
    layers = modules.find_layers(model, layout)
    return model, layers, _Whole(layers), True


def _with_layers(plan: Plan, folder: Path) -> Plan:
    """The plan with every tensor of a merged layer read from its file."""
    merged: dict[str, ckpt.TensorInfo] = {}
    for layer, tensors in plan.attention.items():
        if (path := _layer_path(folder, layer)).exists():
            found = {t.name: t for t in ckpt.read_shard(path).tensors}
            merged |= {info.name: found[inner] for inner, info in tensors.items() if inner in found}

    def read(planned: Planned) -> Planned:
        if (info := merged.get(planned.name)) is None:
            return planned
        if info.shape != planned.shape:
            raise ValueError(f"{planned.name} was merged into {info.shape}, {planned.shape} was planned")
        return replace(planned, pieces=(Piece((Span(info, 0, info.n_elements),)),))

    shards = tuple((shard, tuple(read(t) for t in tensors)) for shard, tensors in plan.shards)
    return replace(plan, shards=shards, pool="calibrated")
