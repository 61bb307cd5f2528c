"""Published models, accelerators and papers, as TOML with their sources, and names resolved to a model."""
