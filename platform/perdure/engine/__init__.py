"""The stream processor: takes commands, runs workflow code, and commits the results in one
transaction.

May import `replay`, `codec`, `core` and what is below; no adapter, no clock of its own. Start
reading at `ports.py` (the contract of a batch), then `processor.py`.
"""
