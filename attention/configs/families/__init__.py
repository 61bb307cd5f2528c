"""One module per kind of attention: how its configurations are read."""
