"""How fast this machine can read, copy and multiply. Torch is imported only when something is measured."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from attention.timing.device_queue import lock_folder
from attention.timing.host import hardware

if TYPE_CHECKING:
    import torch

LARGEST_FLUSH = 256 * 2**20
SHARED_S = 3600.0
"""Seconds for which other processes of this host use a calibration."""


@dataclass(frozen=True)
class Calibration:
    """The measured rates of a device.

    Attributes:
        device: "cpu" or "cuda".
        name: the processor's name.
        threads: torch's threads during the measurement (CPU).
        read_bytes_per_s: rate of reading a float32 tensor far larger than the caches.
        copy_bytes_per_s: rate of copying one half of the tensor to the other, bytes read plus bytes written.
        flops_per_s: dtype name -> rate of a large square matrix product; a multiply-add counts as two.
        buffer_bytes: size of the tensor.
        cache_bytes: size of the last-level cache, None if not known.
        features: the CPU's features that decide how fast attention can be.
        read_with: the fastest of WAYS_TO_READ, which `read_bytes_per_s` is measured with.
    """

    device: str
    name: str
    threads: int
    read_bytes_per_s: float
    copy_bytes_per_s: float
    flops_per_s: dict[str, float]
    buffer_bytes: int
    cache_bytes: int | None
    features: tuple[str, ...]
    read_with: str = "largest element"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """What `to_json` wrote.

        Raises:
            ValueError: a field is missing, unknown or no positive rate.
        """
        try:
            made = cls(**{**values, "features": tuple(values["features"])})
            rates = (made.read_bytes_per_s, made.copy_bytes_per_s, *made.flops_per_s.values())
            if not all(0 < rate < 1e30 for rate in rates):
                raise ValueError(f"rates must be above 0, got {rates}")
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a calibration: {error}") from None
        return made


calibrations: dict[str, Calibration] = {}
"""This process's measurement of each device."""
_calibrating = Lock()


def calibrate(device: str = "cpu", *, again: bool = False) -> Calibration:
    """The rates of a device: known ones, those that another process of this host measured within the hour, or new ones.

    A measurement takes about a second.

    Args:
        device: "cpu" or "cuda".
        again: measure in any case.

    Raises:
        ValueError: there is no such device here.
    """
    with _calibrating:
        found = None if again else calibrations.get(device) or _taken_over(device)
        if found is None:
            found = _calibrate(device)
            _hand_on(found)
        calibrations[device] = found
        return found


def _shared_file(device: str) -> Path:
    from attention import settings

    return lock_folder(settings.load().lock_dir) / f"{device}.calibration.json"


def _taken_over(device: str) -> Calibration | None:
    """What another process measured on this machine with as many threads; None if that is old or cannot be read."""
    try:
        path = _shared_file(device)
        if not 0 <= time.time() - path.stat().st_mtime < SHARED_S:
            return None
        found = Calibration.from_json(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
    machine = hardware()
    fits = found.device == device and (
        device == "cuda" or (found.name, found.threads) == (machine.cpu, machine.threads)
    )
    return found if fits else None


def _hand_on(measured: Calibration) -> None:
    """Write the calibration for other processes of this host. If that fails, they measure for themselves."""
    with contextlib.suppress(OSError, ValueError):
        path = _shared_file(measured.device)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(measured.to_json()))
        aside.replace(path)


def _calibrate(device: str) -> Calibration:
    import torch

    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: this machine has no CUDA device that torch can use")
    machine = hardware()
    if device == "cpu":
        torch.set_num_threads(machine.threads)
    size = 2 * flush_bytes(device)
    buffer = torch.ones(size // 4, device=device)
    source, target = buffer.chunk(2)
    reads = {way: best_time(partial(read_once, buffer, way), device) for way in WAYS_TO_READ}
    way, read = min(reads.items(), key=lambda item: item[1])
    copied = best_time(lambda: target.copy_(source), device)
    del buffer, source, target
    return Calibration(
        device=device,
        name=machine.cpu if device == "cpu" else torch.cuda.get_device_name(),
        threads=torch.get_num_threads(),
        read_bytes_per_s=size / read,
        copy_bytes_per_s=size / copied,
        flops_per_s={name: matmul_rate(name, device) for name in ("float32", "bfloat16", "float16")},
        buffer_bytes=size,
        cache_bytes=last_level_cache(device),
        features=machine.features,
        read_with=way,
    )


def flush_bytes(device: str) -> int:
    """Bytes to read so that nothing else stays in the device's caches.

    Measuring the memory's speed needs twice as much. Caches keep a part of a buffer that is read again and again, even
    if it is four times their size (measured here: 40 to 50 GB/s instead of 36).
    """
    if device == "cuda":
        # a short read is over before the memory is at its full rate
        return 2**30
    # dozens of cores share a last-level cache of hundreds of megabytes, and a virtual machine has only a few of them
    return min(LARGEST_FLUSH, max(64 * 2**20, 4 * (last_level_cache(device) or 32 * 2**20)))


def read_once(buffer: torch.Tensor, way: str = "largest element") -> torch.Tensor:
    """Read all of a float32 tensor of whole megabytes in one of WAYS_TO_READ."""
    if way == "matrix-vector product":
        matrix = buffer.view(-1, 4096)
        return matrix @ matrix[0]
    return buffer.sum() if way == "sum" else buffer.amax()


WAYS_TO_READ = ("largest element", "sum", "matrix-vector product")
"""PyTorch's operations that read memory. Which of them comes closest to the memory's speed depends on the machine."""


def last_level_cache(device: str) -> int | None:
    """Bytes of the largest cache between the processor and its memory; None if not known."""
    if device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).L2_cache_size)
    machine = hardware()
    return machine.l3_bytes or machine.l2_bytes


def synchronize(device: str) -> None:
    """Wait until the device has finished all its work."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def matmul_flops(dtype_name: str, device: str, n: int, repeats: int = 5) -> float:
    """Best rate of an n × n matrix product over some repeats, in operations per second (a multiply-add is two)."""
    import torch

    dtype: torch.dtype = getattr(torch, dtype_name)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    # the result has its memory already, so that the allocator's page faults are not measured
    out = torch.empty_like(a)
    return 2 * n**3 / best_time(lambda: torch.matmul(a, b, out=out), device, repeats)


def matmul_rate(dtype_name: str, device: str) -> float:
    if device == "cuda":
        return matmul_flops(dtype_name, device, 8192)
    small, plain = (matmul_flops(name, device, 256, repeats=15) for name in (dtype_name, "float32"))
    # A dtype without multipliers is emulated, dozens of times slower: a small product is enough to measure it.
    # It is compared with float32 at the same moment, since a busy machine is slow at everything.
    return matmul_flops(dtype_name, device, 1536) if small > plain / 8 else small


def best_time(run: Callable[[], object], device: str, repeats: int = 7) -> float:
    """The shortest of some runs, in seconds, after two to warm up: a limit is what the undisturbed device can do."""
    times = []
    for attempt in range(repeats + 2):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        if attempt >= 2:
            times.append(time.perf_counter() - start)
        if len(times) >= 3 and sum(times) > 1:
            break  # on a busy machine the reader must not wait long
    return min(times)
