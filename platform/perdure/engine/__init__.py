"""The stream processor: takes commands, runs workflow code, and commits the results in one
transaction.

May import `replay`, `codec`, `core` and the packages below them; no adapter, and no clock. Start
reading at `ports.py` (the contract of a batch), then `processor.py`.
"""
