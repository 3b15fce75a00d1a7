"""A rebuild: all records are read again into a schema beside the current one, and the two are
swapped in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from perdure.adapters.postgres.database import Connection, Database
from perdure.adapters.postgres.migrating import migrated
from perdure.adapters.postgres.projector import Projector
from perdure.adapters.postgres.typed_views import keep_in_step
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.adapters.postgres.progress import Progress
    from perdure.codec.columns import Shape
    from perdure.ports.projection import Source

NEW: Final = "__new"
OLD: Final = "__old"
NEAR: Final = 1_000
"""Maximum lag of the new tables when they are swapped, in records; the running projector continues
from there.
"""

_GRANTEE: Final = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
_TABLE_GRANTS: Final = (
    f"SELECT DISTINCT {_GRANTEE}, a.privilege_type, c.relname "  # noqa: S608 - no values in it
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a "
    "WHERE n.nspname = %s AND a.grantee <> c.relowner AND c.relkind IN ('r', 'v')"
).encode()
_SCHEMA_GRANTS: Final = (
    f"SELECT DISTINCT {_GRANTEE}, a.privilege_type "  # noqa: S608 - no values in it
    "FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = %s AND a.grantee <> n.nspowner"
).encode()
_READERS: Final = """SELECT DISTINCT v.oid::regclass::text FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class v ON v.oid = r.ev_class JOIN pg_class t ON t.oid = d.refobjid
        JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = %s AND v.oid <> t.oid AND v.relname <> 'projector_lag' AND v.relname
        NOT IN (SELECT name FROM {s}.typed_views)"""
"""Users' views on our tables."""


class Rebuild:
    """Runs until it is done, or stopped; then nothing has changed.

    Args:
        database: as it is read now.
        source: of every partition.
        progress: receives the status of the rebuild.
        shapes: the columns of the views of workflow types.
    """

    def __init__(
        self, database: Database, source: Source, progress: Progress, shapes: Mapping[str, Shape]
    ) -> None:
        self._database = database
        self._new = database.beside(NEW)
        self._source = source
        self._progress = progress
        self._shapes = shapes
        self._is_stopped = False
        self._projector = Projector(self._new, source, progress)

    def stop(self) -> None:
        """Ask `run` to end; any thread."""
        self._is_stopped = True

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Read, then swap.

        Raises:
            InfrastructureError: it cannot be done; the message says what to do.
        """
        with self._database.telling():
            connection = self._database.connect(name="perdure rebuild")
            try:
                self._check(connection)
                connection.execute(self._new.sql("DROP SCHEMA IF EXISTS {s} CASCADE"))
            finally:
                connection.close()
        migrated(self._new)
        ready()
        try:
            while not self._is_stopped and not self._is_near():
                self._projector.turn()
        finally:
            self._projector.close()
        if not self._is_stopped:
            self._swap()

    def _check(self, connection: Connection) -> None:
        """Check that the swap loses nothing.

        Raises:
            InfrastructureError: something would be.
        """
        row = connection.execute(
            "SELECT to_regnamespace(%s) IS NOT NULL", (self._database.beside(OLD).quoted,)
        ).fetchone()
        if row == (True,):
            raise InfrastructureError(
                f"the schema {self._database.beside(OLD).quoted} of the last rebuild still exists: drop it "
                "once it is no longer read"
            )
        made = {row[0] for row in connection.execute(self._database.sql("SELECT type FROM {s}.typed_views"))}
        if lacking := sorted(made - self._shapes.keys()):
            raise InfrastructureError(
                f"the SQL views of {', '.join(lacking)} would be lost: name the app that defines them, "
                "`perdure projector APP --rebuild`"
            )

    def _is_near(self) -> bool:
        """Whether every partition's end has been seen, and few records are left."""
        positions = self._projector.positions
        if not positions or self._source.gained:
            return False
        ends = {partition: self._source.end_of(partition) for partition in positions}
        return (
            all(end >= 0 for end in ends.values())
            and sum(max(0, ends[each] - at) for each, at in positions.items()) < NEAR
        )

    def _swap(self) -> None:
        old = self._database.beside(OLD)
        with self._database.telling():
            connection = self._database.connect(name="perdure rebuild")
            try:
                grants = connection.execute(_TABLE_GRANTS, (self._database.schema,)).fetchall()
                usage = connection.execute(_SCHEMA_GRANTS, (self._database.schema,)).fetchall()
                keep_in_step(connection, self._new, self._shapes)
                with connection.transaction():
                    for grantee, privilege in usage:
                        connection.execute(self._new.sql(f"GRANT {privilege} ON SCHEMA {{s}} TO {grantee}"))
                    for grantee, privilege, table in grants:
                        row = connection.execute(
                            "SELECT to_regclass(%s) IS NOT NULL", (f'{self._new.quoted}."{table}"',)
                        ).fetchone()
                        if row == (True,):
                            connection.execute(
                                self._new.sql(f'GRANT {privilege} ON {{s}}."{table}" TO {grantee}')
                            )
                    connection.execute(
                        f"ALTER SCHEMA {self._database.quoted} RENAME TO {old.quoted}".encode()
                    )
                    connection.execute(
                        f"ALTER SCHEMA {self._new.quoted} RENAME TO {self._database.quoted}".encode()
                    )
                keep_in_step(connection, self._database, self._shapes)
                readers = [row[0] for row in connection.execute(old.sql(_READERS), (old.schema,))]
                if not readers:
                    connection.execute(old.sql("DROP SCHEMA {s} CASCADE"))
            finally:
                connection.close()
        self._progress.report(f"the schema {self._database.schema} was rebuilt and swapped in")
        if readers:
            self._progress.report(
                f"{', '.join(readers)} still read the old tables: create them again, then DROP SCHEMA "
                f"{old.quoted} CASCADE"
            )
