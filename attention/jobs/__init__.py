"""Work that runs in the worker process: ``attention.jobs.KIND`` is what ``worker.submit(KIND, …)`` starts.

A job module has one function::

    def run(payload: dict, emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict

* ``payload`` is what the caller sent: plain JSON values, checked here (``ValueError`` names the field).
* ``emit(message)`` sends one JSON object to the reader at once; every result goes through it as soon as it is known.
* ``should_stop()`` turns true when the reader pressed Stop or left; a job asks it at least every second and
  returns what it has.
* ``prepare(tell)``, where a module has it, comes first of all: what a run needs and nobody has loaded yet;
  ``tell(words, share)`` says what is waited for.
* The returned dictionary closes the job: a summary, not the results again.
"""
