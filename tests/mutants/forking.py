"""Runs pytest in forks of a process that has imported what tests use of others: most of the time of
a short test is imports.

Started in a checkout, by its path, so that it holds nothing of perdure and nothing of its tests.
Reads a line of JSON for each run, the arguments of pytest and the file for what it prints; answers
with two lines, the id of the process and, once that has ended, its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

PRELOAD: Final = "--preload"
PRELOADED: Final = (
    "asyncio", "concurrent.futures", "confluent_kafka.admin", "email.message", "fastapi",
    "fastapi.openapi.utils", "fastavro", "httptools",
    "http.client", "httpx", "hypothesis.extra", "hypothesis.strategies", "importlib.metadata", "joserfc.jwt",
    "jsonschema", "msgspec.json",
    "multiprocessing", "opentelemetry.sdk.trace", "psycopg", "pytest", "rich.console", "rich.table",
    "rich.traceback", "sqlite3", "starlette",
    "structlog", "typer.testing", "unittest.mock", "uvicorn", "watchfiles", "xdist.scheduler", "yaml",
)  # fmt: skip


def main() -> None:
    """Fork for each line, until there are no more."""
    for name in PRELOADED if PRELOAD in sys.argv else ():
        with suppress(ImportError):
            importlib.import_module(name)
    sys.path[0] = str(Path.cwd())
    for line in sys.stdin:
        arguments, output = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            with open(output, "wb") as file, open(os.devnull, "rb") as nothing:  # noqa: PTH123 - descriptors are all that it is for
                os.dup2(nothing.fileno(), 0)
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            import pytest

            sys.exit(pytest.main(arguments))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
