"""Asks for more memory than the system gives this process."""

import resource


def run(payload, emit, should_stop):
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**31, hard))
    try:
        return {"bytes": len(bytearray(2**32))}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
