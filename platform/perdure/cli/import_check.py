"""Loads an app in a separate process, to check it before the running one is stopped."""

from __future__ import annotations

import sys

from perdure.cli.error_line import one_line
from perdure.cli.loading import load_and_register
from perdure.errors import UsageError


def main() -> None:
    """Load the app named by the first argument; exit with what is wrong with it, in one line."""
    try:
        load_and_register(sys.argv[1], runs_activities=True)
    except UsageError as error:
        sys.exit(one_line(error))
