"""How published configurations are read: a registry of adapters by ``model_type`` and what they share."""

from attention.adapters.registry import ADAPTERS, find

__all__ = ["ADAPTERS", "find"]
