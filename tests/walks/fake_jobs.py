"""Runs without a worker: the walk decides their course, and their made-up results agree with what was asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from attention.kernels.case import (
    Case,
    Result,
    case_bytes,
    case_flops,
)
from attention.timing.step_cases import StepCase, StepResult
from attention.worker import client
from attention.worker.client import Job, State

RATE, FLOPS = 17e9, 1.3e11
"""Bytes and operations per second of the made-up machine; no result is faster than its floor."""


class _NoTurn:
    position = 2

    def wait_s(self) -> tuple[float | None, float]:
        """(the expected time, which is not known; at most ten minutes)."""
        return None, 600.0

    def leave(self) -> None:
        """There is no queue to leave."""


class FakeJob(Job):
    """A run that a walk moves on. `later`: (n, action); the action happens after n reads of `done`, during a draw."""

    later: tuple[int, Callable[[], None]] | None = None

    @property
    def done(self) -> bool:
        if self.later is not None:
            left, act = self.later
            self.later = (left - 1, act) if left else None
            if not left:
                act()
        return self.state in (State.DONE, State.FAILED, State.STOPPED)

    def move(self, action: str) -> None:
        """Do an action: "begin", "result", "finish" or "fail"."""
        if self.state in (State.DONE, State.FAILED, State.STOPPED):
            return
        if self.state is State.QUEUED:
            self.begin()
        if self.stop_asked.is_set():
            self.end(State.STOPPED)
            return
        script = results_of(self.kind, self.payload)
        match action:
            case "result":
                self.results += script[len(self.results) : len(self.results) + 1]
                self.progress, self.progress_text = len(self.results) / max(len(script), 1), "some are timed"
            case "finish":
                self.results += script[len(self.results) :]
                self.summary = summary_of(self.kind, self.payload)
                self.end(State.DONE)
            case "fail":
                self.end(State.FAILED, "the run took more memory than it may: choose a shorter context")


@contextmanager
def worker_of_walks() -> Iterator[list[FakeJob]]:
    """Replace the worker, so that nothing is computed; the yielded list holds the runs that pages submit."""
    jobs: list[FakeJob] = []
    no_turn: Any = _NoTurn()

    def submit(kind: str, payload: dict[str, Any], *, owner: str, **_: Any) -> FakeJob:
        mine = [job for job in jobs if job.owner == owner and job.state in (State.QUEUED, State.RUNNING)]
        if len(mine) >= 2:
            raise client.RefusedError(
                "you have 2 runs waiting or running already: stop one, or wait until one has ended"
            )
        jobs.append(FakeJob(kind, payload, owner, "cpu", 60.0, 2**30, no_turn))
        return jobs[-1]

    with mock.patch.object(client, "submit", submit):
        yield jobs


def summary_of(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    from attention.timing import runs

    recorded = runs.recorded()[0]
    match kind:
        case "uptrain_lab":
            return {"steps": 97, "plan": payload, "config": {}, "weights": "AAAA"}
        case "bench" | "model_step" | "calibrate":
            return {"host": recorded.host, "calibration": recorded.calibration}
    return {}


def results_of(kind: str, payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The results that a job of this kind would emit, in order."""
    match kind:
        case "bench":
            return [_timing(Case.from_json(case), n) for n, case in enumerate(payload["cases"])]
        case "model_step":
            return [_step(StepCase.from_json(case), n) for n, case in enumerate(payload["cases"])]
        case "uptrain_lab":
            return _training(payload)
        case "code_check":
            return _checks(payload)
        case "verify":
            return [_verification(payload)]
    return []


def _timing(case: Case, number: int) -> dict[str, Any]:
    floor = max(case_bytes(case) / RATE, case_flops(case) / FLOPS)
    memory = case_bytes(case) / RATE >= case_flops(case) / FLOPS
    values = {name: getattr(case, name) for name in case.__dataclass_fields__} | {"device": "cpu"}
    timed = number % 11 != 7
    rounds = tuple(floor * (1.2 + 0.01 * number + 0.001 * i) for i in range(7))
    return Result.from_json({
        **values,
        "median_s": rounds[3] if timed else None,
        "iqr_s": 0.003 * floor if timed else None,
        "cache_bytes": case.cache_bytes,
        "bytes_per_s": case_bytes(case) / rounds[3] if timed else None,
        "error": 3e-7 if timed else None,
        "floor_s": floor,
        "times_floor": rounds[3] / floor if timed else None,
        "note": "" if timed else "does not fit the memory",
        "bound": "memory" if memory else "arithmetic",
        "repeats": 7 if timed else 0,
        "tolerance": 1e-5,
        "read_bytes_per_s": RATE,
        "flops_per_s": FLOPS,
        "times_s": rounds if timed else (),
        "together": 1,
        "unsteady": "other programs took 40 % of the processor" if number % 5 == 3 else "",
    }).to_json()  # fmt: skip


def _step(case: StepCase, number: int) -> dict[str, Any]:
    floor = (case.weight_bytes + case.cache_bytes) / RATE
    rounds = tuple(floor * (1.2 + 0.01 * number + 0.001 * i) for i in range(7))
    layer = rounds[3]
    prefill = tuple(case.prefill_flops / FLOPS * (1.1 + 0.001 * i) for i in range(5))
    return StepResult(
        replace(case.shape, device="cpu"), layer, 0.003 * layer, prefill[2], floor, 3e-3, "", rounds,
        prefill, 1,
    ).to_json()  # fmt: skip


def _training(payload: dict[str, Any]) -> list[dict[str, Any]]:
    from attention.tiny import results
    from attention.tiny.numpy_forward import load_named

    found = results.first_maps(load_named("mha"), payload["n_kv_heads"], payload["pool"])
    packed = {when: results.pack_maps(weights**2) for when, weights in found.items()}
    return [
        {"kind": "loss", "step": 0, "validation_loss": 2.9},
        {"kind": "reference", "name": "mha", "n_kv_heads": 8, "validation_loss": 1.31},
        *({"kind": "maps", "when": when, "data": data} for when, data in packed.items()),
        {"kind": "train", "steps": [1, 2, 3], "losses": [2.9, 2.4, 2.0]},
        {"kind": "loss", "step": 31, "validation_loss": 1.71},
        {"kind": "train", "steps": [40, 50], "losses": [1.7, 1.6]},
        {"kind": "loss", "step": 97, "validation_loss": 1.49},
        {"kind": "maps", "when": "uptrained", "data": packed["converted"]},
    ]


def _checks(payload: dict[str, Any]) -> list[dict[str, Any]]:
    h, k, d = payload["n_heads"], payload["n_kv_heads"], payload["head_dim"]
    counts = [
        {"what": "counts", "name": name, "class": name, "n_kv_heads": n, "output_shape": [1, 1, payload["hidden_size"]],
         "n_parameters": 2 * payload["hidden_size"] * d * (h + n), "cache_bytes": 4 * n * d * payload["context"]}
        for name, n in (("MHA", h), ("GQA", k), ("MQA", 1))
    ]  # fmt: skip
    equal = {"what": "equality", "largest_difference": 3e-7, "tolerance": 1e-5, "equal": True, "output_shape": [2, 96]}
    return [*counts, {**equal, "name": "GQA with one K/V head is MQA", "n_kv_heads": 1}]


def _verification(payload: dict[str, Any]) -> dict[str, Any]:
    layers = [
        {"index": i, "kind": "full", "computed_bytes": n, "allocated_bytes": n, "explanation": None}
        for i, n in zip(range(3), itertools.repeat(4096 * payload["context"]), strict=False)
    ]
    whole = sum(layer["computed_bytes"] for layer in layers)
    return {
        "model": str(payload.get("model") or payload.get("name")), "model_type": "llama",
        "context": payload["context"], "batch": 1, "kv_dtype": "bf16", "layers": layers, "computed_bytes": whole,
        "allocated_bytes": whole, "unexplained_bytes": 0, "n_parameters": 7_000_003, "seconds": 1.3, "peak_rss": 2**28,
        "notes": [],
    }  # fmt: skip
