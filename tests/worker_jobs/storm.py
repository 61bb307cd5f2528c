"""Starts processes that start processes, until it is ended, or payload["most"] are there."""

import os
import time


def run(payload, emit, should_stop):
    emit({"pid": os.getpid()})
    for _ in range(payload["most"]):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
    return {}
