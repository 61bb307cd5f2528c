"""Converts checkpoints to fewer K/V heads."""
