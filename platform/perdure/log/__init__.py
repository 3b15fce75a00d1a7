"""Logs: commands in, batches out; and how clients reach them.

`channel.py` is the exchange inside a process that every log composes; `sqlite.py` and `memory.py` are the logs; `local.py` and
`remote.py` carry a client's requests from the same and from another process. May import `medium` and what is below, not `store`.
Start reading at `engine/ports.py`, then `channel.py`.
"""
