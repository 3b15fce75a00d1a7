"""Lists and histories that are longer than a page, as people read them: by the command line, the
client and the HTTP API."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.cli import main
from perdure.cli.lifecycle.api_backends import on_file
from perdure.client import Client
from perdure.codec.records import encode_event_record, encode_state
from perdure.embedded import Platform
from perdure.errors import RequestRefused
from perdure.model.events import SignalReceived
from perdure.model.states import Status, WorkflowState
from perdure.registry import Registry
from tests.contract.samples import record

COUNT = 2_300


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "app.db"
    with Platform(Registry.of([]), f"sqlite:///{path}"):
        pass
    states = [
        WorkflowState(f"w-{n:04}", f"r-{n}", "Order", Status.RUNNING, n // 7, n, 0, 2) for n in range(COUNT)
    ]
    states.append(WorkflowState("long", "run-1", "Long", Status.RUNNING, 1, 1, 0, 2_999))
    history = [record("run-1", 1, workflow_id="long")]
    history += [
        record("run-1", first, *[SignalReceived("go", b"[]")] * 3, workflow_id="long")
        for first in range(3, 3_000, 3)
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = [
            (
                s.workflow_id,
                s.type,
                str(s.status),
                s.started_at,
                encode_state(s),
                s.run_id,
                s.updated_at,
                0,
                b"",
            )
            for s in states
        ]
        connection.executemany("INSERT INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        events = [("run-1", each.first_event_id, encode_event_record(each)) for each in history]
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
    return path


def perdure(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--db", str(path)])
    assert not ended.value.code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("limit", [999, 1_000, 1_001, 2_000, 2_500])
def test_a_list_of_the_command_line_longer_than_a_page_has_each_workflow_once(
    path: Path, capsys: pytest.CaptureFixture[str], limit: int
) -> None:
    for sort in ("started_at", "workflow_id"):
        found = perdure(
            capsys,
            path,
            "workflow",
            "list",
            "--type",
            "Order",
            "--limit",
            str(limit),
            "--sort",
            sort,
            "-o",
            "json",
        )
        ids = [each["workflow_id"] for each in found]
        assert ids == [f"w-{n:04}" for n in reversed(range(COUNT))][:limit]


def test_a_status_that_does_not_exist_is_refused_everywhere_with_those_that_do(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> None:
        async with Client.connect(f"sqlite:///{path}") as client:
            for ask in (client.list, client.counts):
                with pytest.raises(RequestRefused, match="'canceled': must be one of running, suspended"):
                    await ask(status="canceled")
            with pytest.raises(RequestRefused, match="must be one of started_at"):
                await client.list(sort="created_at")  # type: ignore[arg-type]
            with pytest.raises(RequestRefused, match="must be one of newest, oldest"):
                await client.list(order="desc")  # type: ignore[arg-type]

    asyncio.run(ask())
    with pytest.raises(SystemExit) as ended:
        main(["workflow", "list", "--status", "canceled", "--db", str(path)])
    assert ended.value.code == 2
    assert "cancelled" in capsys.readouterr().err


def test_the_api_refuses_what_no_workflow_can_have_and_gives_histories_by_pages(path: Path) -> None:
    async def ask() -> None:
        app = create_app(on_file(f"sqlite:///{path}", None)[0], Unsecured())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app._app.router.lifespan_context(app._app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1") as http,
        ):
            for query in (
                "status=canceled",
                "status=running&status=foo",
                "status=",
                "limit=1&limit=2",
                "sort=x&sort=started_at",
            ):
                for what in ("/workflows", "/workflows/events"):
                    answer = await http.get(f"{what}?{query}")
                    assert answer.status_code == 422, (what, query, answer.text)
            assert "cancelled" in (await http.get("/workflows/counts?status=canceled")).json()["detail"]
            found: list[int] = []
            begin: int | None = 1
            while begin is not None:
                page = (await http.get(f"/workflows/long/history?from={begin}&limit=700")).json()
                assert len(page["events"]) <= 700
                found += [each["event_id"] for each in page["events"]]
                begin = page["next"]
            assert found == list(range(1, 3_000))
            one = (await http.get("/workflows/long/history?from=4&limit=1")).json()
            assert ([each["event_id"] for each in one["events"]], one["next"]) == ([4], 5), "within a record"
            beyond = (await http.get("/workflows/long/history?from=9000")).json()
            assert (beyond["events"], beyond["next"]) == ([], None)
            assert (await http.get("/workflows/long/history?run_id=other")).status_code == 404

    asyncio.run(ask())
