"""What `perdure check` finds in an author's source: names that leak, missing awaits, order of sets.

Start reading at `leaks.py`.
"""
