"""The tables, one step a file, `<version>_<what>.sql`: applied in order, each once, and never
edited after a release (`migrating.py`).
"""
