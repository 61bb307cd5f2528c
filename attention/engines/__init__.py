"""How engines lay out a cache and what they print about it: rules with sources, caches, explained logs, the ledger."""
