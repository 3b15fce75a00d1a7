"""The activity worker: takes tasks, runs your functions, reports.

May import everything but `cli`, `api` and `embedded`. Start reading at `worker.py`; one attempt is
in `attempt.py`. Local activities run on the same code beside the engine (`steps.py`).
"""
