"""Gives one result, then hangs and no longer reacts to being stopped."""

import os
import time


def run(payload, emit, should_stop):
    emit({"pid": os.getpid()})
    while True:
        time.sleep(60)
