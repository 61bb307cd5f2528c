"""The commands of ``python -m attention``, one module each, imported only when called.

A command module has ``HELP`` (one line), ``configure(parser)`` and ``run(args) -> int`` (the exit code). For a mistake
of the user ``run`` raises ValueError: its message is printed, and the exit code is 2. ``arguments`` is no command; it
has what several commands need.
"""
