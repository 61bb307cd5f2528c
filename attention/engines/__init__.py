"""What engines lay out and print: rules with their sources, each engine's cache, logs explained, the ledger."""
