"""Monitoring for operators: metrics, health, logs, traces.

Everything is read from plain counters when somebody asks; nothing here runs on the engine's hot
path. Beside `embedded`: may import what is below it (`worker`, `log`, `engine`); wired by `cli`.
Start reading at `observed.py` (what is looked at), then `metrics.py` and `health.py`; `server.py`
serves them.
"""
