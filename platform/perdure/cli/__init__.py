"""The command line: `perdure dev`, `init`, `workflow …`, `check`.

The top layer: may import everything below, but only inside the functions that need it, so that
`perdure --help` stays quick. `commands/` has one file a command, each thin over the library;
`options/` the options that they share, `lifecycle/` the commands that run until they are stopped,
`source_checks/` the checks of your code by `perdure check`. Start reading at `app.py`.

Exit codes: 0, done; 1, the command failed or the app is invalid, with one line on stderr that says
what to do; 2, the command line is wrong.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit.

    Args:
        arguments: the arguments after `perdure`; those of the process by default.

    Raises:
        SystemExit: always, with the exit code.
    """
    from perdure.cli.app import app
    from perdure.cli.error_line import as_options, one_line
    from perdure.errors import ClientError, InfrastructureError, UsageError

    try:
        app(args=arguments, prog_name="perdure")
    except (ClientError, InfrastructureError, UsageError) as error:
        _exit(as_options(one_line(error)))


def _exit(message: str) -> NoReturn:
    """End with one line on standard error; a process whose log is JSON writes it as such."""
    logs = sys.modules.get("perdure.observability.logs")
    if logs is None or not logs.writes_json:
        sys.exit(f"perdure: {message}")
    logging.getLogger("perdure").error(message)
    sys.exit(1)
