"""Annotations that msgspec alone does not take, because JSON has to say which of several types a
value has.

- `A | B`, where two or more are dataclasses, Structs or pydantic models: an object has the member
  `"$type"` with the name of the class. Every language can read and write it.
- Enums of mixed values, and several enums in a union: written as their values.
- `Literal` of enum members, paths and IP addresses beside values of other kinds.

What JSON cannot tell apart is refused, with advice. Annotations that msgspec takes never come here.
`compiler.py` is the place to start.
"""
