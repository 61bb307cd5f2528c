"""States beforehand how much memory it needs, and must not be run if that is too much."""


def estimate_bytes(payload):
    return payload["bytes"]


def run(payload, emit, should_stop):
    emit({"ran": True})
    return {}
