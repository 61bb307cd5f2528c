"""What fits on an accelerator, and the least time of prefill and of a decode step there."""
