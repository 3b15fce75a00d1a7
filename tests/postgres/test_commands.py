"""`perdure migrate`, and how a projector that waits shows itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from perdure.adapters.postgres.progress import Progress
from perdure.adapters.postgres.projector import Projector
from perdure.errors import InfrastructureError
from perdure.observability.health import is_live, is_ready
from perdure.observability.metrics import registry_of
from perdure.observability.observed import Observed
from perdure.ports.projection import NotThereYet, ReadRecords
from tests.contract.samples import record, state
from tests.kafka.namespace import ROOT, wait_until
from tests.postgres.server import Server
from tests.postgres.tables import Script, fresh, page, rows

APP = """
from dataclasses import dataclass
from perdure import workflow

@dataclass
class Look:
    {field}

@workflow.defn
class Painting:
    @workflow.run
    async def run(self) -> None: ...

    @workflow.view
    def look(self) -> Look: ...
"""


def migrate(dsn: str, namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "perdure.cli",
        "migrate",
        "--postgres",
        dsn,
        "--namespace",
        namespace,
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_migrate_makes_tables_and_views_and_may_be_repeated(postgres: str, tmp_path: Path) -> None:
    app = tmp_path / "painting.py"
    app.write_text(APP.format(field="colour: str"))
    first = migrate(postgres, "paintings", str(app))
    assert (first.returncode, first.stderr) == (0, "")
    assert "applied 0001_tables" in first.stdout
    assert "0002_memo_and_details" in first.stdout
    assert "the view wf_painting of Painting was created: colour" in first.stdout
    again = migrate(postgres, "paintings", str(app))
    assert again.stdout.strip().endswith("nothing to do")
    app.write_text(APP.format(field="size: int"))
    assert "wf_painting of Painting was created: size" in migrate(postgres, "paintings", str(app)).stdout
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT size FROM paintings.wf_painting").fetchall() == []


def test_migrate_says_in_one_line_what_is_wrong() -> None:
    done = migrate("postgresql://127.0.0.1:1/shop", "shop")
    assert done.returncode == 1
    assert done.stderr.startswith("perdure: PostgreSQL at 127.0.0.1:1/shop cannot be reached")
    assert done.stderr.count("\n") == 1


def test_a_projector_waits_for_its_server_reports_it_and_catches_up(postgres_server: Server) -> None:
    said: list[str] = []

    def report(message: str, /, **where: str | int) -> None:
        said.append(message)

    database, progress = fresh(postgres_server.dsn), Progress(report)
    observed = Observed(projector=progress)
    source = Script(page([state("a")], [record()]), page([state("b")]))
    projector = Projector(database, source, progress)
    assert not is_ready(observed).is_well, "it has not begun"
    assert projector.turn()
    assert is_ready(observed).is_well
    postgres_server.stop()
    wait_until(lambda: not projector.turn(0.01), 10)
    assert not projector.turn(0.01)
    assert is_live(observed).is_well, "a restart would not help"
    assert "PostgreSQL" in is_ready(observed).reasons[0]
    postgres_server.start()
    wait_until(
        lambda: projector.turn() and rows(database, "SELECT count(*) FROM {s}.workflows") == [(2,)], 20
    )
    assert is_ready(observed).is_well
    text = {
        sample.name: sample.value for family in registry_of(observed).collect() for sample in family.samples
    }
    assert (text["perdure_projector_states_total"], text["perdure_projector_events_total"]) == (2, 2)
    assert text["perdure_projector_lag_records"] == 0
    projector.close()
    assert source.is_closed


class Unmade(Script):
    """Its topics come later."""

    is_there = False

    def take(self, limit: int, timeout_s: float) -> ReadRecords:
        if not self.is_there:
            raise NotThereYet("topic shop.events does not exist: create it with `perdure topics apply`")
        return super().take(limit, timeout_s)


def test_topics_that_are_not_there_yet_are_waited_for(postgres: str) -> None:
    progress = Progress(untold)
    source = Unmade(page([state("a")], [record()]))
    projector = Projector(fresh(postgres), source, progress)
    assert not projector.turn()
    observed = Observed(projector=progress)
    assert "topics apply" in is_ready(observed).reasons[0]
    assert is_live(observed).is_well
    source.is_there = True
    assert projector.turn()
    assert is_ready(observed).is_well
    projector.close()


def untold(message: str, /, **where: str | int) -> None: ...


def test_an_error_that_waiting_does_not_fix_ends_the_projector(postgres: str) -> None:
    database = fresh(postgres)
    projector = Projector(database, Script(page([state("a")]), ReadRecords()), Progress(untold))
    with database.connect() as connection:
        connection.execute(database.sql("DROP TABLE {s}.workflows CASCADE"))
    with pytest.raises(InfrastructureError, match="perdure migrate"):
        projector.turn()
    projector.close()
