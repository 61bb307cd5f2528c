"""A mistake in a handler; its text must not reach the visitor."""


def run(payload, emit, should_stop):
    emit({"before": True})
    raise KeyError("/etc/secret")
