"""The stopwatch of a device, and what the device can do while something is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from attention.timing import host, speed

SLEEP_CYCLES = 1_000_000
"""About half a millisecond of a GPU's clock: longer than a host takes to launch a handful of kernels."""


class Clock:
    """Times one call on a device: wall time on the CPU, the time between two of the device's events on CUDA."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if not self.cuda:
            torch.set_num_threads(host.worker_threads())

    def time(self, run: Callable[[], object]) -> float:
        """Seconds of one call."""
        if not self.cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        # the sleep keeps the device busy while the host launches, so that launching is not part of the device's time
        torch.cuda._sleep(SLEEP_CYCLES)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def recorded(self, run: Callable[[], object]) -> Callable[[], object]:
        """The work as a CUDA graph, as engines launch it: one launch replaces a launch per kernel.

        On a processor, and where the work cannot be recorded, the result is `run` itself.
        """
        if not self.cuda:
            return run
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                run()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            torch.cuda.synchronize()
            return run
        return Recorded(run, graph)


@dataclass(frozen=True)
class Recorded:
    """Work as a CUDA graph. It keeps `run` too, and so keeps alive the tensors whose addresses the graph uses."""

    run: Callable[[], object]
    graph: torch.cuda.CUDAGraph

    def __call__(self) -> None:
        self.graph.replay()


class Pace:
    """What the machine can do while a case is timed. Between the timed runs it reads memory and multiplies matrices.

    So the floor and the times that are compared with it are of the same moments. The reading also leaves the K/V cache
    in memory only.
    """

    def __init__(self, device: str, dtype: str, calibration: speed.Calibration) -> None:
        # they are read in turn, so that nothing of a buffer is in the processor's caches when it is read again
        self.buffers = [torch.ones(speed.flush_bytes(device) // 4, device=device) for _ in range(2)]
        # a dtype without multipliers of its own can be widened to float32
        multiplied = max((dtype, "float32"), key=calibration.flops_per_s.__getitem__)
        rate = calibration.flops_per_s[multiplied]
        # on a processor the product takes about ten milliseconds, and is large enough to reach the rate
        n = 4096 if device == "cuda" else min(1024, max(128, int((rate * 0.005) ** (1 / 3)) // 64 * 64))
        self.a = torch.randn(n, n, device=device).to(getattr(torch, multiplied))
        self.out = torch.empty_like(self.a)
        self.reads: list[float] = []
        self.products: list[float] = []
        self.calibration, self.rate = calibration, rate

    def read(self, clock: Clock) -> None:
        """Read a buffer larger than the caches, and note its time."""
        buffer = self.buffers[len(self.reads) % 2]
        self.reads.append(clock.time(lambda: speed.read_once(buffer, self.calibration.read_with)))

    def multiply(self, clock: Clock) -> None:
        """Multiply two matrices, and note the time."""
        self.products.append(clock.time(lambda: torch.matmul(self.a, self.a, out=self.out)))

    def forget(self) -> None:
        """Drop the readings and products so far, which were for warming up; the last reading and first product stay."""
        self.reads, self.products = self.reads[-1:], self.products[:1]

    @property
    def bytes_per_s(self) -> float:
        """The median rate of the readings so far; before any, the calibration's rate."""
        return self.buffers[0].nbytes / median(self.reads) if self.reads else self.calibration.read_bytes_per_s

    @property
    def flops_per_s(self) -> float:
        """The median rate of the products after the first, which warms up."""
        return 2 * self.a.shape[0] ** 3 / median(self.products[1:]) if len(self.products) > 1 else self.rate
