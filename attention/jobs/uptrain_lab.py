"""Worker job "uptrain_lab": convert the tiny MHA model, then train it on while the reader watches.

Payload: the fields of ``uptraining.Plan``: ``n_kv_heads``, ``pool``, ``alpha``, ``seed``. Emits, as soon as known:

* ``{"kind": "layer", "report"}`` for each layer of a calibrated merge (``convert/refine.LayerReport``),
* ``{"kind": "loss", "step", "validation_loss"}`` at step 0 (just converted) and about twelve times later,
* ``{"kind": "train", "steps": […], "losses": […]}``, the training losses since the last such message,
* ``{"kind": "reference", "name", "n_kv_heads", "validation_loss"}`` for MHA and the model trained from scratch,
* ``{"kind": "maps", "when": "original" | "converted" | "uptrained", "data"}``, see ``results.pack_maps``.

Returns ``weights`` (safetensors in float16, as base64, at most 2.5 MB), ``config``, ``plan`` and ``steps``, the number
of steps done.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

from attention.errors import StoppedError

TRAIN_EVERY_S = 0.4
"""Seconds between two messages with training losses."""


Emit = Callable[[dict[str, Any]], None]


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Set torch's threads for this run, then set them back: the worker's next run may time attention."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(payload: dict[str, Any], emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a wrong payload; the message names the field.
    """
    from attention.tiny import uptraining as lab

    plan = lab.Plan(**{f.name: payload[f.name] for f in fields(lab.Plan) if f.name in payload})
    # as many threads as the original was trained with, which is one: the sums are those of the recorded study, and on a
    # busy server one thread is quicker than several that wait for each other
    with _threads(lab.original().threads):
        return _run(plan, emit, should_stop)


def _run(plan: Any, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    from attention.tiny import results
    from attention.tiny import uptraining as lab
    from attention.tiny.train import mean_loss

    emit({"progress": 0.0, "message": f"Converting to {plan.n_kv_heads} K/V heads"})
    source = lab.source_model()
    n_layers = source.config.n_layers

    def report(layer: Any) -> None:
        emit({"kind": "layer", "report": asdict(layer)})
        emit(
            {
                "progress": 0.0,
                "message": f"Merging by what the text makes of them: layer {layer.layer + 1} of {n_layers}",
            }
        )
        if should_stop():
            raise StoppedError

    try:
        model = lab.convert(source, plan.n_kv_heads, plan.pool, plan.seed, report)
    except StoppedError:
        return {"steps": 0, "plan": asdict(plan)}
    stream, rows = lab.text()
    emit({"kind": "loss", "step": 0, "validation_loss": mean_loss(model, rows, batch=8)})
    for name, one in (("mha", source), ("scratch", lab.from_scratch(plan.n_kv_heads))):
        if one is not None and not should_stop():
            value = mean_loss(one, rows, batch=8)
            emit({"kind": "reference", "name": name, "n_kv_heads": one.config.n_kv_heads, "validation_loss": value})
    emit({"kind": "maps", "when": "original", "data": results.pack_maps(lab.attention_of(source))})
    emit({"kind": "maps", "when": "converted", "data": results.pack_maps(lab.attention_of(model))})
    steps = _train(lab.Uptraining(model, stream, plan.seed), rows, plan.steps, emit, should_stop)
    emit({"kind": "maps", "when": "uptrained", "data": results.pack_maps(lab.attention_of(model))})
    weights = base64.b64encode(lab.stored(model)).decode("ascii")
    return {"steps": steps, "plan": asdict(plan), "config": model.config.to_json(), "weights": weights}


def _train(uptraining: Any, rows: Any, n_steps: int, emit: Emit, should_stop: Callable[[], bool]) -> int:
    """Train up to step `n_steps` or until stopped. Returns the number of steps done."""
    from attention.tiny import uptraining as lab
    from attention.tiny.train import mean_loss
    from attention.units import duration

    measured = set(lab.measured_steps(n_steps))
    began = sent = time.monotonic()
    numbers: list[int] = []
    losses: list[float] = []
    while uptraining.step < n_steps and not should_stop():
        losses.append(uptraining.advance())
        # a step's loss belongs to the weights before that step
        numbers.append(uptraining.step - 1)
        done = uptraining.step / n_steps
        now = time.monotonic()
        if now - sent > TRAIN_EVERY_S or uptraining.step == n_steps:
            emit({"kind": "train", "steps": numbers, "losses": losses})
            left = (now - began) * (1 / done - 1)
            emit({"progress": done, "message": f"Step {uptraining.step} of {n_steps}, about {duration(left)} left"})
            sent, numbers, losses = now, [], []
        if uptraining.step in measured and not should_stop():
            value = mean_loss(uptraining.model, rows, batch=8)
            emit({"kind": "loss", "step": uptraining.step, "validation_loss": value})
    return int(uptraining.step)
