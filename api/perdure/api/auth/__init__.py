"""Authentication and roles: API keys, tokens of an identity provider, and the one place where
requests are admitted.

May import `roles` and the problems of the API, and joserfc; nothing here knows a route. Start
reading at `security.py`: `key_file.py` and `api_keys.py` are our own keys, `key_sets.py` and
`tokens.py` those of an identity provider. `origin_check.py` protects a `perdure dev`, which has
neither.
"""
