"""The rules of a run, pure: `decide` says what a command leads to, `record` takes over an event and
says what must happen then.

May import `model` and `errors`: no clock, no I/O, no asyncio. `state.py` is what a run remembers;
`machines/` has the rules, one machine a file with its transition table on top; `registry.py` merges
them and checks that nothing of the model is left out. Start reading at `run.py`, then
`machines/activity.py`.
"""
