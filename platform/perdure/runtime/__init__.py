"""Parts that every platform shares, on memory, on a file and on Kafka: the life of a process, and
the side loop of its activities.

`embedded`, `distributed` and `testing` wire their adapters to it. May import the worker and what is
below it. Start reading at `process.py`.
"""
