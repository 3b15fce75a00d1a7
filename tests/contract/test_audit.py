"""The audit trail, in memory and in the platform's file. That of Kafka:
tests/kafka/test_audit.py."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.adapters.sqlite.audit import SqliteAuditTrail
from perdure.adapters.sqlite.file import connect
from perdure.errors import InfrastructureError
from perdure.ports.audit import KEPT_US
from tests.contract.audit_suite import (
    assert_concurrent_entries_are_all_stored,
    assert_it_is_closed_twice,
    assert_latest_come_first_page_by_page,
    entry,
)
from tests.contract.media import SqliteMedia

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perdure.ports.audit import AuditTrail


@pytest.fixture
def media(tmp_path: Path) -> Iterator[SqliteMedia]:
    media = SqliteMedia(tmp_path)
    media.node().open()
    yield media
    media.close()


@pytest.fixture(params=["memory", "sqlite"])
def trail(request: pytest.FixtureRequest, media: SqliteMedia) -> Iterator[AuditTrail]:
    trail: AuditTrail = MemoryAuditTrail() if request.param == "memory" else SqliteAuditTrail(media.path)
    yield trail
    trail.close()


def test_the_latest_come_first_page_by_page(trail: AuditTrail) -> None:
    assert_latest_come_first_page_by_page(trail)


def test_concurrent_entries_are_all_stored(trail: AuditTrail) -> None:
    assert_concurrent_entries_are_all_stored(trail)


def test_it_is_closed_twice(trail: AuditTrail) -> None:
    assert_it_is_closed_twice(trail)


def test_it_is_kept_over_a_restart_and_beside_an_engine_that_owns_the_file(media: SqliteMedia) -> None:
    with closing(SqliteAuditTrail(media.path)) as trail:
        trail.append([entry(1)])
    with closing(SqliteAuditTrail(media.path)) as again:
        assert [each.entry for each in again.entries(10)] == [entry(1)]


def test_what_is_older_than_a_year_and_a_month_is_forgotten_with_the_next_start(media: SqliteMedia) -> None:
    with closing(SqliteAuditTrail(media.path)) as trail:
        trail.append([entry(1), entry(KEPT_US), entry(KEPT_US + 2)])
    with closing(SqliteAuditTrail(media.path)) as again:
        assert [each.entry.at for each in again.entries(10)] == [KEPT_US + 2, KEPT_US]


def test_without_a_file_or_with_one_that_is_locked_it_says_so(media: SqliteMedia, tmp_path: Path) -> None:
    with (
        closing(SqliteAuditTrail(tmp_path / "none.db")) as trail,
        pytest.raises(InfrastructureError, match="no database"),
    ):
        trail.append([entry(1)])
    with closing(SqliteAuditTrail(media.path)) as trail:
        trail.entries(1)
        assert trail._connection is not None
        trail._connection.execute("PRAGMA busy_timeout = 50")
        with closing(connect(media.path, 0.1)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(InfrastructureError, match="locked"):
                trail.append([entry(1)])
            other.execute("ROLLBACK")
        trail.append([entry(2)])
        assert [each.entry for each in trail.entries(10)] == [entry(2)]
