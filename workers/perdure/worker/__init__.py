"""The activity worker: takes tasks, runs your functions, reports.

May import everything but `cli`, `api` and `embedded`. Start reading at `worker.py`; one attempt is
in `attempt.py`. The same code runs local activities in the engine's process (`steps.py`).
"""
