"""What authors write with, behind the names of `perdure.workflow` and `perdure.activity`: definitions, members,
calls, retries, sagas.
"""
