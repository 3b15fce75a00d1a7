"""The option `--run-retention`: how long closed runs are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perdure.engine.processor import Settings

RunRetentionOption = Annotated[
    str,
    typer.Option(
        help="Remove closed runs, with all their records, after this time: '30 days', or by outcome: "
        "'7 days, failed=90 days, terminated=forever'. For workflow types that say nothing themselves; "
        "by default they are kept for ever.",
        envvar="PERDURE_RUN_RETENTION",
        metavar="TEXT",
    ),
]


def engine_settings(run_retention: str) -> Settings:
    """The settings of an engine.

    Raises:
        UsageError: the text is no retention.
    """
    from perdure.engine.processor import Settings
    from perdure.model.retention import retention_of_text

    return Settings(retention=retention_of_text(run_retention))
