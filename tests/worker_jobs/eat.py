"""Takes 16 MiB more memory again and again, until it is ended."""

import time


def run(payload, emit, should_stop):
    held = []
    while True:
        held.append(b"x" * (16 * 2**20))
        emit({"held": len(held)})
        time.sleep(0.02)
