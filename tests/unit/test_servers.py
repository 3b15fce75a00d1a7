"""Kafka and PostgreSQL of the tests: a server that is named, then a container, then a process of
this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

from tests import servers
from tests.kafka import broker
from tests.postgres import server
from tests.servers import Source, docker_answers, source

VARIABLE = "PERDURE_TEST_SERVER"


class Containers(ModuleType):
    """testcontainers' modules of both servers; keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__("testcontainers")
        self.environment: dict[str, str] = {}
        self.made: list[tuple[str, object]] = []
        self.is_running = False

    def KafkaContainer(self, image: str) -> Containers:  # noqa: N802
        self.made.append((image, None))
        return self

    def PostgresContainer(self, image: str, driver: object) -> Containers:  # noqa: N802
        self.made.append((image, driver))
        return self

    def with_kraft(self) -> Containers:
        return self

    def with_env(self, key: str, value: str) -> Containers:
        self.environment[key] = value
        return self

    def get_bootstrap_server(self) -> str:
        assert self.is_running
        return "container:9093"

    def get_connection_url(self) -> str:
        assert self.is_running
        return "postgresql://container"

    def __enter__(self) -> Self:
        self.is_running = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_running = False


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool, bool], Containers]:
    """Make this machine one that has Docker, and testcontainers, or not."""

    def make(has_docker: bool, has_testcontainers: bool) -> Containers:
        containers = Containers()
        for variable in ("KAFKA_BOOTSTRAP", "PERDURE_TEST_POSTGRES", VARIABLE):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(servers, "docker_answers", lambda: has_docker)

        def find_spec(_: str) -> object:
            return containers if has_testcontainers else None

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        for name in ("kafka", "postgres"):
            monkeypatch.setitem(sys.modules, f"testcontainers.community.{name}", containers)

        @contextlib.contextmanager
        def own(*_: Any) -> Generator[Any]:
            yield "a process"

        monkeypatch.setattr(broker, "running", own)
        monkeypatch.setattr(server, "running", own)
        return containers

    return make


@pytest.mark.parametrize(
    ("named", "has_docker", "has_testcontainers", "expected"),
    [
        ("host:1", True, True, Source.NAMED),
        ("host:1", False, False, Source.NAMED),
        ("", True, True, Source.CONTAINER),
        ("", False, True, Source.PROCESS),
        ("", True, False, Source.PROCESS),
        ("", False, False, Source.PROCESS),
    ],
)
def test_the_first_source_that_there_is_wins(
    machine: Callable[[bool, bool], Containers],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    has_docker: bool,
    has_testcontainers: bool,
    expected: Source,
) -> None:
    machine(has_docker, has_testcontainers)
    monkeypatch.setenv(VARIABLE, named)
    assert source(VARIABLE) is expected


@pytest.mark.parametrize("status", [0, 1])
def test_docker_answers_when_its_client_reaches_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" = info ] && exit {status}\nexit 1\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert docker_answers() is (status == 0)


def test_without_a_docker_client_nothing_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not docker_answers()


@pytest.mark.parametrize(
    ("enter", "variable", "address"),
    [
        (broker.any_kafka, "KAFKA_BOOTSTRAP", "bootstrap"),
        (server.any_postgres, "PERDURE_TEST_POSTGRES", "dsn"),
    ],
)
def test_a_named_server_is_used_and_nothing_is_started(
    machine: Callable[[bool, bool], Containers],
    monkeypatch: pytest.MonkeyPatch,
    enter: Callable[[], AbstractContextManager[Any]],
    variable: str,
    address: str,
) -> None:
    containers = machine(True, True)
    monkeypatch.setenv(variable, "there")
    with enter() as found:
        assert getattr(found, address) == "there"
    assert not containers.made


def test_kafka_in_a_container_has_what_transactions_need_and_ends_with_the_tests(
    machine: Callable[[bool, bool], Containers],
) -> None:
    containers = machine(True, True)
    with broker.any_kafka() as cluster:
        assert (cluster.bootstrap, cluster.brokers) == ("container:9093", [])
        assert containers.environment["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == "1"
        assert containers.environment["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "1"
        assert containers.environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert containers.made == [(broker.IMAGE, None)]
    assert not containers.is_running


def test_postgres_in_a_container_is_named_without_a_driver(
    machine: Callable[[bool, bool], Containers],
) -> None:
    containers = machine(True, True)
    with server.any_postgres() as found:
        assert (found.dsn, found.is_ours) == ("postgresql://container", False)
    assert containers.made == [(server.IMAGE, None)]
    assert not containers.is_running


@pytest.mark.parametrize("enter", [broker.any_kafka, server.any_postgres])
def test_without_docker_the_tests_start_a_process(
    machine: Callable[[bool, bool], Containers], enter: Callable[[], AbstractContextManager[Any]]
) -> None:
    containers = machine(False, True)
    with enter() as found:
        assert found == "a process"
    assert not containers.made


def test_the_modules_of_testcontainers_exist_and_are_not_deprecated() -> None:
    """Warnings are errors here: a deprecated module would fail only where Docker is."""
    pytest.importorskip("testcontainers")  # the other Pythons have the extra `test` alone
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.postgres import PostgresContainer

    assert all(
        callable(getattr(KafkaContainer, name)) for name in ("with_kraft", "with_env", "get_bootstrap_server")
    )
    assert callable(PostgresContainer.get_connection_url)
