"""Explains what each figure of a log means for its model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from attention.catalog import published
from attention.engines import report_llama_cpp, report_sglang, report_tensorrt_llm, report_vllm
from attention.engines.log import MAX_EXPLAINED, Log
from attention.engines.report import Report
from attention.engines.rules import conv_kernel
from attention.spec import ModelSpec


class Known(NamedTuple):
    """A model, and the columns of its convolution (None without one)."""

    spec: ModelSpec
    conv_kernel: int | None


def explain(log: Log, known: Known | None = None, **stated: Any) -> Report:
    """The report on a log: its figures compared with what is computed for the model.

    Args:
        known: the model; None for the model that the log names.
        stated: settings of vLLM, SGLang or TensorRT-LLM that a user states; a value of None leaves it to the log.

    Raises:
        ValueError: no figure is in the log, the model is not known, or a layout is not known here.
    """
    if not log.figures:
        raise ValueError(f"{log.engine} wrote this log, but no line about the cache is in it")
    spec, kernel = known or model_of(log)
    report = _explained(log, spec, kernel, stated)
    if not cut(log):
        return report
    note = f"only the first {MAX_EXPLAINED} different figures of a kind are explained"
    return replace(report, notes=(*report.notes, note))


def _explained(log: Log, spec: ModelSpec, kernel: int | None, stated: dict[str, Any]) -> Report:
    if log.engine == "sglang":
        return report_sglang.explain(log, spec, report_sglang.settings_of(log, spec, kernel, **stated))
    if log.engine == "tensorrt-llm":
        return report_tensorrt_llm.explain(log, spec, report_tensorrt_llm.settings_of(log, spec, **stated))
    if log.engine == "vllm":
        settings = report_vllm.settings_of(log, kernel)
        settings = replace(settings, **{name: value for name, value in stated.items() if value is not None})
        return report_vllm.explain(log, spec, settings)
    return report_llama_cpp.explain(log, spec, report_llama_cpp.settings_of(log, kernel))


def cut(log: Log) -> bool:
    """Whether a log has more different figures of some kind than are explained."""
    return any(len(set(log.seen(kind))) > MAX_EXPLAINED for kind in {figure.kind for figure in log.figures})


def model_of(log: Log) -> Known:
    """The model that the log names, or else a model with the sizes that the log states.

    Raises:
        ValueError: the log states no sizes, and names no model or one that the catalogue does not have.
    """
    row = next((row for name in log.names if (row := published.find(name)) is not None), None)
    if row is not None and row.spec is not None:
        return Known(row.spec, conv_kernel(row.config))
    shape = report_llama_cpp.shape_of(log) if log.engine == "llama.cpp" else None
    if shape is None:
        what = "names a model that the catalogue has not" if log.names else "does not name its model"
        raise ValueError(f"the log {what}; say which it is with --model")
    return Known(shape, None)
