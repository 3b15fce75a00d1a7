"""Runs an author's coroutine so that it does the same again: the deterministic event loop of one run, and what guards it.

May import `perdure.core`, `perdure.workflow`, `perdure.activity`, `perdure.model` and `perdure.errors`; it is the only pure part
that may import asyncio. No clock, no I/O, no Kafka, no codec: whoever drives a loop tells it the time and takes its actions.

Start reading at `loop.py` (one activation: drain after ONE recorded event). Then `order.py` (why sets of tasks keep their order),
`eviction.py` (forgetting a run without running its code), `guard.py` (what workflow code must not call) and `watchdog.py` (code
that blocks).
"""
