"""What authors use beside activities, on a real broker and PostgreSQL: context, children,
attributes, tokens, patches and processes, while engines are killed and replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import pytest

from perdure import context
from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.cli.lifecycle.api_backends import on_kafka
from perdure.client import Client, Handle
from perdure.distributed import Place
from perdure.errors import EngineUnavailable
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.tokens import parse
from perdure.registry import Registry
from tests.kafka.apps import authors
from tests.kafka.namespace import Namespace
from tests.kafka.processes import engine, worker
from tests.kafka.test_projector import projector

APP: Final = "tests/kafka/apps/authors.py"
RUNS: Final = 8
T = TypeVar("T")


async def patient(ask: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request while no engine has the partition: none runs yet, or one was killed."""
    while True:
        with suppress(EngineUnavailable):
            return await ask()


def test_what_authors_use_goes_on_while_engines_are_killed_and_replaced(
    namespace: Namespace, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"refund-{number}" for number in range(RUNS)]
    assert {namespace.place_of(name) for name in names} == set(range(4))
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})

    def note(name: str) -> None:
        """Twice the same: it acts once, also when the run continues as new in between."""
        namespace.send([cm.SignalWorkflow(name, request_id="note", name="note")])

    async def issued(refund: Handle[Any, authors.Told]) -> list[str]:
        while not (texts := await refund.view(authors.Refund.issued)):
            await asyncio.sleep(0.05)
        return list(texts)

    async def answer(client: Client, http: httpx.AsyncClient, texts: list[str]) -> None:
        by_record, over_http, by_client = texts
        address = parse(by_record)
        assert address is not None
        command = cm.ResolveToken(address.workflow_id, address.run_id, token=by_record, value=b"1")
        namespace.send([command, command])
        await patient(lambda: client.resolve(by_client, 3))
        while (status := (await http.post(f"/tokens/{over_http}", json=2)).status_code) == 503:
            pass
        assert status == 202

    async def live(stack: ExitStack) -> None:
        url = f"kafka://{namespace.bootstrap}/{namespace.name}"
        old = stack.enter_context(engine(APP, namespace, tmp_path / "old"))
        backend, trail = on_kafka(place, Registry.of([authors.Refund, authors.child], []), postgres)
        app = create_app(backend, Unsecured())
        api = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost/api/v1", timeout=60
        )
        async with (
            Client.connect(url) as client,
            app._app.router.lifespan_context(app._app),
            api as http,
            asyncio.timeout(120),
        ):

            async def begun(number: int) -> tuple[Handle[Any, authors.Told], list[str]]:
                with context.use(tenant=names[number]):
                    starting = client.options(if_running="attach")
                    refund = await patient(
                        lambda: starting.start(names[number], authors.Refund.run, number * 100)
                    )
                return refund, await issued(refund)

            begun_by_old = await asyncio.gather(*map(begun, range(RUNS // 2)))
            monkeypatch.setenv("AUTHORS_CODE", "new")
            stack.enter_context(engine(APP, namespace, tmp_path / "new"))
            # both releases serve, each its own partitions
            begun_since = await asyncio.gather(*map(begun, range(RUNS // 2, RUNS - 1)))
            for name in names[:-1]:
                note(name)
            old.kill()
            old.wait()
            async with asyncio.TaskGroup() as answers:  # some of them while nobody has their partition
                for _, texts in (*begun_by_old, *begun_since):
                    answers.create_task(answer(client, http, texts))
            last, texts = await begun(RUNS - 1)
            note(names[-1])
            await answer(client, http, texts)
            for name in names:
                note(name)
            results = [await refund.result() for refund, _ in (*begun_by_old, *begun_since)]
            results.append(await last.result())
            check(results)
            found = await http.get("/workflows", params={"where": "cents >= 300 and city = 'Bari'"})
            listed = await client.list(where="cents >= 300 and city = 'Bari'")
            assert {each["id"] for each in found.json()["workflows"]} == {"refund-3", "refund-4"}
            assert {each.workflow_id for each in listed} == {"refund-3", "refund-4"}
        trail.close()

    def check(results: list[authors.Told]) -> None:
        pids: set[int] = set()
        for name, told in zip(names, results, strict=True):
            assert told.context == [name, name, f"run of {name}"]
            assert told.child == [name, name, f"child of {name}"]
            assert told.answers == [1, 2, 3]
            assert told.notes == 0, "the run before has had it"
            pid, count = told.digits
            pids.add(pid)
            assert count == 302
        assert work.pid not in pids
        patched = {
            record.workflow_id
            for _, record in namespace.events()
            for event in record.events
            if isinstance(event, ev.PatchApplied)
        }
        assert {name for name, told in zip(names, results, strict=True) if told.fee == 2} == patched
        assert {told.fee for told in results[: RUNS // 2]} == {1}
        assert results[-1].fee == 2

    with ExitStack() as stack:
        stack.enter_context(projector(namespace, postgres))
        work = stack.enter_context(worker(APP, namespace))
        asyncio.run(live(stack))
