"""Checks of your source code by `perdure check`: nondeterministic names, missing awaits, order of
sets.

Start reading at `leaks.py`.
"""
