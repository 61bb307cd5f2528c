"""Work that runs in the worker process: ``attention.jobs.KIND`` is what ``worker.submit(KIND, …)`` starts.

A job module has one function::

    def run(payload: dict, emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict

* ``payload`` is what the caller sent: plain JSON values, which the module checks (``ValueError`` names the field).
* ``emit(message)`` sends one JSON object to the reader at once. Each result is sent as soon as it is known.
* ``should_stop()`` becomes true when the reader presses Stop or leaves. A job asks at least every second, and then
  returns what it has.
* ``prepare(tell)``, where a module has it, is called first and loads what the run needs. ``tell(words, share)`` reports
  what it is waiting for, and the share that is done, 0 to 1.
* ``estimate_bytes(payload)``, where a module has it, is called next: the memory that the run needs, in bytes.
* The returned dictionary ends the job: it is a summary and does not repeat the results.
"""
