"""Checks whether a value comes back as it is when it is encoded and decoded by its annotation.

JSON has fewer types than Python: a tuple under `Any` comes back as a list, a subclass of a
dataclass as its base class, and of `{1: "a", "1": "b"}` as `dict[int | str, str]` one entry
remains. Such values are refused where they are encoded, so that code does the same with a value as
with what is recorded of it.

A check is compiled once for each annotation (`compiler.py`); most of it compares types. Types that
cannot be checked in advance (pydantic models, classes with `__post_init__`, constraints) are
decoded again and compared (`difference.py`). The arguments of a call are checked by one generated
function (`call.py`). One exception: an int where a float is expected is accepted, as type checkers
accept it.

May import `perdure.model`, `perdure.errors` and msgspec. Start reading at `compiler.py`.
"""
