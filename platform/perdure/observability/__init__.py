"""Monitoring for operators: metrics, health, logs, traces.

Everything is read from plain counters on request; nothing here runs on the engine's hot path.
Beside `embedded`: may import the packages below it (`worker`, `engine`, …); wired by `cli`. Start
reading at `observed.py` (the observed parts), then `metrics.py` and `health.py`; `server.py` serves
them.
"""
