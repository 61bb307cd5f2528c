"""How busy other processes of this host are while something is timed."""

from __future__ import annotations

import psutil

from attention.timing.steadiness import QUIET, Load


def processor_times() -> tuple[float, float, float, float]:
    """(total, busy, this process's, stolen): seconds of processor time since the host started."""
    system, own = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = system.idle + getattr(system, "iowait", 0.0)
    # user time contains guest time
    total = sum(system) - getattr(system, "guest", 0.0) - getattr(system, "guest_nice", 0.0)
    return total, total - idle, own.user + own.system, getattr(system, "steal", 0.0)


class OtherLoad:
    """How busy other processes, and other virtual machines of the same host, kept the processor since the object was
    made."""

    def __init__(self) -> None:
        self._start = processor_times()

    def taken(self) -> Load:
        """Shares of the processor from 0 to 1; 0 where the clock has not ticked yet."""
        total, busy, own, steal = (now - before for now, before in zip(processor_times(), self._start, strict=True))
        if total <= 0:
            return QUIET
        return Load(min(1.0, max(0.0, (busy - own) / total)), min(1.0, max(0.0, steal / total)))
