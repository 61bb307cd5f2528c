"""The commands of ``python -m attention``, one module each, imported only when called.

A command module has ``HELP`` (one line), ``configure(parser)`` and ``run(args) -> int`` (the exit code).
``run`` may raise ValueError for what the user got wrong: the message is printed and the exit code is 2.
``arguments`` is no command: it is what they share.
"""
