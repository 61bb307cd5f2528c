"""The machine that measures: its processor, its GPUs, and its free memory."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from attention.settings import control_group

if TYPE_CHECKING:
    pass

_FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
"""CPU flags that decide how fast attention can be."""


@dataclass(frozen=True)
class Gpu:
    """One graphics processor, as its driver describes it; clocks in MHz."""

    name: str
    memory_bytes: int
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    driver: str


@dataclass(frozen=True)
class Host:
    """What a measurement must say about its machine. Sizes are in bytes: one core's L1d and L2, the L3, the memory."""

    cpu: str
    cores: int
    threads: int
    l1d_bytes: int | None
    l2_bytes: int | None
    l3_bytes: int | None
    features: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str
    torch: str | None
    gpus: tuple[Gpu, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe() -> Host:
    """This machine, with the GPUs' clocks of this moment."""
    return replace(hardware(), gpus=_gpus())


@cache
def hardware() -> Host:
    """This machine without its GPUs. It is read once per process."""
    info = cpuinfo()
    return Host(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        threads=worker_threads(),
        l1d_bytes=_cache_size(1),
        l2_bytes=_cache_size(2),
        l3_bytes=_cache_size(3),
        features=tuple(f for f in _FEATURES if f in (info.get("flags") or info.get("Features") or "").split()),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=package_version("torch"),
        gpus=(),
    )


def worker_threads() -> int:
    """Threads to compute with: the physical cores that this process may use, since hyper-threads share multipliers."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = control_group("cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        allowed = min(allowed, max(1, math.ceil(int(quota[0]) / int(quota[1]))))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def free_memory(device: str = "cpu") -> int:
    """Bytes that can be allocated without swapping: the system's free memory, or the control group's if it is smaller.

    On CUDA they are the bytes of the GPU that torch can still use.
    """
    if device == "cuda":
        import torch

        # memory that torch's allocator holds and does not use is free to us too
        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + unused
    free = psutil.virtual_memory().available
    limit, used = control_group("memory.max"), control_group("memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return int(free)


def cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cache_size(level: int) -> int | None:
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if int((index / "level").read_text()) == level and (index / "type").read_text().strip() != "Instruction":
                return int((index / "size").read_text().strip().removesuffix("K")) * 1024
        except (OSError, ValueError):
            continue
    return None


def package_version(package: str) -> str | None:
    """Version of an installed package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> tuple[Gpu, ...]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # without a driver, NVML raises errors of its own kind
        return ()
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        return tuple(_gpu(pynvml, i, driver) for i in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def clock(read: Callable[[Any, int], int], kind: int) -> int | None:
        try:
            return read(handle, kind)
        except nvml.NVMLError:
            return None

    return Gpu(
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        sm_clock_mhz=clock(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=clock(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        max_sm_clock_mhz=clock(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        max_memory_clock_mhz=clock(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
        driver=driver,
    )
