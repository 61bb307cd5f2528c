"""Checkpoints turned into ones with fewer K/V heads."""
