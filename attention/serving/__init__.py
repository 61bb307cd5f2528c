"""What fits on an accelerator, and the floor of a decode step there."""
