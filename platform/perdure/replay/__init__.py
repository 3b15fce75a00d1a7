"""Deterministic replay: the event loop of one run, and its guards.

May import `perdure.core`, `perdure.workflow`, `perdure.activity`, `perdure.model` and
`perdure.errors`; it is the only pure part that may import asyncio. No clock, no I/O, no Kafka, no
codec: the driver of a loop sets its time and takes its actions.

Start reading at `loop.py` (one activation: drain after ONE recorded event). Then `order.py` (why
sets of tasks keep their order), `eviction.py` (forgetting a run without running its code),
`guard.py` (what workflow code must not call) and `watchdog.py` (code that blocks).
"""
