"""The present code opens the file of every release's `perdure dev`, and brings its runs to their
ends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from perdure.client import Client
from perdure.embedded import Platform
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


def test_a_file_of_an_earlier_release_is_continued(folder: Folder, book: Path, tmp_path: Path) -> None:
    release, file = folder.release, tmp_path / "app.db"
    folder.put_file(file)
    book.write_text("".join(f"{line}\n" for line in release.file.book))
    clock = MovedClock(release.file.at + 2 * HOUR_US)
    changed, repaired = folder.code("changed"), folder.code("repaired")

    def on(platform: Platform, ask: Callable[[Client], Any]) -> None:
        async def main() -> None:
            async with platform.client() as client:
                await ask(client)

        platform.start()
        try:
            asyncio.run(main())
        finally:
            platform.stop(grace_s=0)

    async def look_at(client: Client) -> None:
        await look(client, release, release.file, changed)
        vip = [each.id for each in release.scenarios if "attributes" in each.options]
        assert [each.workflow_id for each in await client.list(attributes={"vip": True})] == vip

    async def end(client: Client) -> None:
        await go_on(client, clock, release, is_one_process=True)
        await check_ends(client, release, release.file)

    with clock.shown():
        on(Platform(changed, f"sqlite:///{file}"), look_at)
        on(Platform(repaired, f"sqlite:///{file}"), end)
    assert_done_once(release, book)
    with closing(sqlite3.connect(file)) as connection:
        assert_shipped_once(release, [key for (key,) in connection.execute("SELECT key FROM records")])
        closed = dict(connection.execute("SELECT run_id, is_earlier FROM closed"))
        last = connection.execute("SELECT run_id FROM workflows WHERE closed_at > 0")
        assert all(run_id in closed for (run_id,) in last), "retention finds what closed before"
        assert any(closed.values()), "and earlier runs of an id"
