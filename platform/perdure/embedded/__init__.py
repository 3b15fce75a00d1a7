"""The whole platform in one process on one file: engine, steps and worker, wired.

    with Platform(Registry.of_everything_imported(), "sqlite:///app.db") as platform:
        client = platform.client()

May import everything but `cli` and `api`. Start reading at `platform.py`.
"""

from perdure.embedded.platform import Platform

__all__ = ["Platform"]
