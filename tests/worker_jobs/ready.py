"""Makes something ready, whatever it is asked."""


def run(payload, emit, should_stop):
    emit({"progress": 0.5, "message": "reading"})
    return {}
