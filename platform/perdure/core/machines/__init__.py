"""The machines, one a file: transition table, rules, and `MACHINE`, which `core.registry` merges
with the others.
"""
