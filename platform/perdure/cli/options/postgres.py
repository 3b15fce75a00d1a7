"""Options of the commands that use PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perdure.adapters.postgres.database import Database
    from perdure.codec.columns import Shape

PostgresOption = Annotated[
    str,
    typer.Option(
        help="Database with the tables: postgresql://USER@HOST/DATABASE. Put the password into PGPASSWORD.",
        metavar="DSN",
        envvar="PERDURE_POSTGRES",
    ),
]
AppArgument = Annotated[
    str,
    typer.Argument(
        help="The file (app.py) or module (shop.app) whose workflows' views become SQL views.", metavar="APP"
    ),
]


def database_of(dsn: str, namespace: str) -> Database:
    """The schema of a namespace.

    Raises:
        UsageError: psycopg is not installed, the address is invalid, or the namespace cannot be the
            name of a schema.
    """
    from perdure.errors import UsageError

    try:
        from perdure.adapters.postgres.database import Database
    except ModuleNotFoundError as error:
        raise UsageError(
            f"PostgreSQL needs the module {error.name}: pip install 'perdure[postgres]'"
        ) from None
    return Database(dsn, namespace)


def shapes_of_app(app: str) -> dict[str, Shape]:
    """Columns of the views of an app's workflows; empty without an app.

    Raises:
        UsageError: the app cannot be loaded.
    """
    if not app:
        return {}
    from perdure.cli.loading import load_and_register
    from perdure.codec.columns import shapes_of

    return shapes_of({name: each.view for name, each in load_and_register(app)[1].workflows.items()})
