"""Commands that run until they are stopped: signals, restarts, more processes, their servers.

Start reading at `serving.py` (`perdure dev`) and `signals.py` (every other command).
"""
