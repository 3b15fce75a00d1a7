"""Errors as one line."""

from __future__ import annotations

import os
from pathlib import Path


def one_line(error: BaseException) -> str:
    """The error's message without line breaks, files named from where the reader is; its class's
    name when there is no message.
    """
    return " ".join(str(error).split()).replace(f"{Path.cwd()}{os.sep}", "") or type(error).__name__
