"""The command line: `perdure dev`, `init`, `workflow …`, `check`.

The top layer: may import everything below, but only inside the functions that need it, so that
`perdure --help` stays quick. `commands/` has one file a command, each thin over the library;
`options/` the options that they share, `lifecycle/` the commands that run until they are stopped,
`source_checks/` the checks of your code by `perdure check`. Start reading at `app.py`.

Exit codes and `--json`: `contract.py`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit.

    Args:
        arguments: the arguments after `perdure`; those of the process by default.

    Raises:
        SystemExit: always, with the exit code.
    """
    import typer.exceptions

    from perdure.cli.app import app
    from perdure.cli.contract import USAGE, ExitCode, asks_for_json, kind_of
    from perdure.cli.error_line import as_options, one_line
    from perdure.cli.output import Wanted
    from perdure.errors import ClientError, InfrastructureError, UsageError

    given = sys.argv[1:] if arguments is None else arguments
    Wanted.json = asks_for_json(given)
    try:
        sys.exit(app(args=given, prog_name="perdure", standalone_mode=False) or ExitCode.DONE)
    except typer.exceptions.TyperException as error:
        wrong = cast("typer.BadParameter", error)  # their common base has no public name
        wrong.show()
        _print_error(USAGE, wrong.format_message())
        sys.exit(ExitCode.USAGE)
    except typer.Abort:  # a question was not answered with yes
        _print_error(USAGE, "not confirmed: nothing was done")
        _exit("not confirmed: nothing was done")
    except (ClientError, InfrastructureError, UsageError) as error:
        message = as_options(one_line(error))
        _print_error(kind_of(error), message, error)
        _exit(message)


def _print_error(kind: str, message: str, error: BaseException | None = None) -> None:
    """Print the error as a document, where the command prints JSON."""
    from perdure.cli.contract import error_document
    from perdure.cli.output import Wanted, print_json

    if Wanted.json:
        print_json(error_document(kind, message, error))


def _exit(message: str) -> NoReturn:
    """End with one line on standard error; a process whose log is JSON writes it as such."""
    from perdure.cli.contract import ExitCode

    logs = sys.modules.get("perdure.observability.logs")
    if logs is None or not logs.writes_json:
        print(f"perdure: {message}", file=sys.stderr)
    else:
        logging.getLogger("perdure").error(message)
    sys.exit(ExitCode.FAILED)
