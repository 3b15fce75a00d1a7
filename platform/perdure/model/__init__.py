"""The data model of the platform: commands, events, actions, tasks, states, replies.

Pure: imports `perdure.errors` and nothing else of ours; no clock, no I/O, no asyncio. Times are
integer microseconds since 1970-01-01 UTC (`at`, `fires_at`), spans of time are integer microseconds
(`…_us`). Payloads are bytes that describe themselves (see `perdure.codec`). Start reading at
`events.py`.
"""
