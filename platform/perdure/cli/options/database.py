"""The option `--db`, and the URL that it stands for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

DEFAULT_DB: Final = "sqlite:///perdure.db"

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--db", envvar="PERDURE_URL", help="The database: sqlite:///file, or just the file.", metavar="URL"
    ),
]


def database_url(db: str) -> str:
    """The URL that was given as `--db`, or the URL of the file that was given."""
    return db if "://" in db else f"sqlite:///{db}"
