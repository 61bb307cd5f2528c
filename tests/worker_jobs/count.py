"""Counts up to payload["n"], one result each, and stops when asked."""

import os
import time


def run(payload, emit, should_stop):
    print("a library's chatter on standard output")
    for i in range(payload["n"]):
        if should_stop():
            return {"counted": i}
        emit({"i": i, "pid": os.getpid()})
        emit({"progress": (i + 1) / payload["n"], "message": f"{i + 1} of {payload['n']}"})
        time.sleep(payload.get("pause_s", 0.0))
    return {"counted": payload["n"]}
