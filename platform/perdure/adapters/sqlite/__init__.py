"""Log, store, readers and clients of one machine, in one SQLite file."""
