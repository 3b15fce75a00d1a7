"""Texts of runs and of errors for the terminal, which they must not control."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with its control characters, line breaks included, escaped as Python does it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
