"""Log, store and reader in memory: for tests, with the same promises as the real ones."""
