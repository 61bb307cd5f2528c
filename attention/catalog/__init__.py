"""Published models, accelerators and papers as TOML with their sources, and the lookup of a model by name."""
