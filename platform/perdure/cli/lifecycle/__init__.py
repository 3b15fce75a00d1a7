"""Parts of the commands that run until they are stopped: signals, restarts, several processes,
servers.

Start reading at `serving.py` (`perdure dev`) and `signals.py` (every other command).
"""
