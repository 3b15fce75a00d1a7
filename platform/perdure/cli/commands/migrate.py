"""`perdure migrate`: the tables of a namespace in PostgreSQL, as this version needs them."""

from __future__ import annotations

from perdure.cli.options.kafka import NamespaceOption
from perdure.cli.options.postgres import AppArgument, PostgresOption
from perdure.cli.output import say


def migrate(namespace: NamespaceOption, postgres: PostgresOption, app: AppArgument = "") -> None:
    """Make or upgrade the tables of a namespace; with an app, its SQL views too. Safe to repeat,
    and beside one that does the same.
    """
    from perdure.cli.options.postgres import database_of, shapes_of_app

    database, shapes = database_of(postgres, namespace), shapes_of_app(app)
    from perdure.adapters.postgres.migrating import latest, migrated
    from perdure.adapters.postgres.typed_views import keep_in_step

    applied = migrated(database)
    for line in applied:
        say(None, f"applied {line}")
    if not applied:
        say(None, f"the schema {database.schema} has version {latest()}: nothing to do")
    with database.telling(), database.connect(name="perdure migrate") as connection:
        views = list(keep_in_step(connection, database, shapes))
    say({"schema": database.schema, "version": latest(), "applied": applied, "views": views}, *views)
