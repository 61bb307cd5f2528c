"""Published configurations read into a ModelSpec, or refused with a reason."""
