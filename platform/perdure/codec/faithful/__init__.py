"""Checks whether a value is unchanged after it is encoded and decoded by its annotation.

JSON has fewer types than Python: a tuple under `Any` becomes a list, a subclass of a dataclass its
base class, and `{1: "a", "1": "b"}` as `dict[int | str, str]` loses an entry. Such values are
refused when they are encoded, so that code behaves the same with a value and with its recorded
form.

A check is compiled once for each annotation (`compiler.py`); most of it compares types. Types that
cannot be checked in advance (pydantic models, classes with `__post_init__`, constraints) are
decoded again and compared (`difference.py`). The arguments of a call are checked by one generated
function (`call.py`). One exception: an int where a float is expected is accepted, as type checkers
accept it.

May import `perdure.model`, `perdure.errors` and msgspec. Start reading at `compiler.py`.
"""
