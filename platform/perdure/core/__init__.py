"""The rules of a run, pure: what a command leads to (`decide`), what an event changes (`evolve`), what must happen then (`effects`).

May import `model` and `errors`: no clock, no I/O, no asyncio. One machine a file with its transition table on top. Start reading at
`run.py`, then `decide.py`.
"""
