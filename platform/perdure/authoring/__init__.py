"""Implements the public names of `perdure.workflow` and `perdure.activity`: definitions, members,
calls, retries, sagas.
"""
