"""Values, exceptions and records as bytes, and back.

`payloads.py` is the implementation of the port `perdure.model.payloads`: user values as JSON by
annotation, arguments by the signature of your function (`arguments.py`), exceptions
(`failures.py`). `records.py` has the platform's own records as msgpack, `history.py` a history as
JSON for people and tools. Pure: imports `perdure.model`, `perdure.errors` and msgspec; no clock, no
I/O (tracebacks read source files, as tracebacks do). Start reading at `payloads.py`.
"""
