"""The present code takes over the topics of every release, and brings their runs to their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.registry import Registry
from tests.compatibility.conftest import book, folder
from tests.compatibility.going_on import (
    HOUR_US,
    MovedClock,
    assert_done_once,
    assert_shipped_once,
    check_ends,
    go_on,
    look,
)
from tests.compatibility.release import Folder
from tests.compatibility.restoring import restored
from tests.kafka.namespace import Namespace

__all__ = ["book", "folder"]
QUEUES = ("default", "warehouse")


def test_topics_of_an_earlier_release_are_continued(
    kafka: str, folder: Folder, book: Path, tmp_path: Path
) -> None:
    release, topics = folder.release, folder.topics
    book.write_text("".join(f"{line}\n" for line in release.topics.book))
    clock = MovedClock(release.topics.at + 2 * HOUR_US)
    changed, repaired = folder.code("changed"), folder.code("repaired")
    said: list[str] = []

    def report(message: str, /, **_: str | int) -> None:
        said.append(message)

    with restored(kafka, topics) as name, clock.shown():
        state = tmp_path / "state"
        (state / name).mkdir(parents=True)
        folder.put_store(state / name)
        place = Place(name, {"bootstrap.servers": kafka})

        def on(registry: Registry, worker: WorkerOptions | None, ask: Callable[[Client], Any]) -> None:
            engine = EngineOptions("engine-0", state)
            platform = KafkaPlatform(registry, place, engine=engine, worker=worker, report=report)

            async def main() -> None:
                async with platform.client() as client:
                    await ask(client)

            platform.start()
            try:
                asyncio.run(main())
            finally:
                platform.stop(grace_s=0)
            assert platform.status.counts.dead_letters == 0
            assert platform.status.counts.events_ahead == 0

        async def look_at(client: Client) -> None:
            await look(client, release, release.topics, changed)

        async def end(client: Client) -> None:
            await go_on(client, clock, release, is_one_process=False)
            await check_ends(client, release, release.topics)

        on(changed, None, look_at)
        for partition, _ in enumerate(topics.own["events"].ends):
            path = str(state / name / str(partition))
            assert [each for each in said if path in each], "a store of another Kafka is reported"
        on(repaired, WorkerOptions(QUEUES), end)
        assert_done_once(release, book)
        shipped = Namespace.__new__(Namespace)
        shipped.bootstrap = kafka
        for other in topics.others:
            shipped.name, _, part = other.partition(".")
            assert_shipped_once(release, [record.key() for record in shipped.read(part)])
