"""A job that has ended, as it is kept under a link: its results and its machine.

Only this program writes kept jobs, from its own worker's messages. Only the payload comes from a visitor, and the
worker has checked it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from attention.kernels.case import Result
from attention.timing import runs
from attention.worker.client import Job, State

FORMAT = 1
_MARK = "headshare_job"
NOT_KEPT = ("weights",)
"""Parts of a summary that are too large to keep."""


@dataclass(frozen=True, eq=False)
class KeptJob:
    """What a page shows of a job that has ended. The other fields are those of ``worker.job.Job``.

    Attributes:
        label: the machine in a few words.
        created: when the job was kept, UTC, ISO 8601.
        torch: the version of torch.
    """

    kind: str
    payload: dict[str, Any]
    results: list[dict[str, Any]]
    summary: dict[str, Any] | None
    state: State
    elapsed_s: float
    error: str | None
    label: str
    created: str
    torch: str

    done = True

    @property
    def title(self) -> str:
        return f"{self.kind}, {len(self.results)} results"

    def dumps(self) -> str:
        """The job as JSON text that :func:`parse` reads, without NOT_KEPT."""
        values = asdict(self)
        if self.summary is not None:
            values["summary"] = {name: value for name, value in self.summary.items() if name not in NOT_KEPT}
        return json.dumps({_MARK: FORMAT, **values}, allow_nan=False)


def of_job(job: Job) -> KeptJob:
    """The kept form of a job that has ended."""
    assert job.done
    summary = job.summary or {}
    timed = [Result.from_json(row) for row in job.results] if job.kind == "bench" else []
    run = runs.new(timed, host=summary.get("host"), calibration=summary.get("calibration"))
    torch = run.versions.get("torch", "unknown")
    return KeptJob(
        job.kind, job.payload, list(job.results), job.summary, job.state, job.elapsed_s, job.error,
        run.label, run.created, torch,
    )  # fmt: skip


def is_one(text: str) -> bool:
    """Whether a kept text is a job and not a run of timings."""
    return text.startswith(f'{{"{_MARK}"')


def parse(text: str) -> KeptJob:
    """Read what :meth:`KeptJob.dumps` wrote.

    Raises:
        ValueError: another version wrote it.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or values.pop(_MARK, None) != FORMAT:
        raise ValueError("this is no job that this version has kept")
    try:
        return KeptJob(**{**values, "state": State(values["state"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no job that this version has kept: {error}") from None
