"""The installed version of perdure: `from perdure.version import __version__`.

`perdure` itself is a namespace over several source roots (PEP 420) and can have no attributes of
its own.
"""

from __future__ import annotations

from importlib import metadata
from typing import Final

__all__ = ["__version__"]

__version__: Final = metadata.version("perdure")
