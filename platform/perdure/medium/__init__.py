"""What a log and a store keep their things in: one SQLite file, or memory.

On one machine log and store share a medium: the log writes a batch into it, the store and other processes read it. May import
`engine.ports`, `client.ports` and what is below. Start reading at `sqlite.py`; `memory.py` is its twin for tests.
"""
