"""Does long work in a process of its own, one run at a time per device."""
