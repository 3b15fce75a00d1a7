"""Stores: the materialised state of what a log holds; a cache, rebuilt or caught up when the log is ahead.

May import `medium` and what is below, not `log`. Start reading at `engine/ports.py`, then `memory.py`.
"""
