"""Options of a process on Kafka."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from perdure.engine.processor import DEFAULTS, Settings
from perdure.model.options import DEFAULT_QUEUE

STATE_DIR: Final = Path("perdure-state")


def unique_name() -> str:
    """A name that no other process has while this one runs."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Place:
    """A Kafka cluster and a namespace.

    Attributes:
        namespace: their prefix.
        settings: of librdkafka, checked: `bootstrap.servers`, security and what else is not ours.
    """

    namespace: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        instance: its name; unique among running processes.
        state_dir: the directory of its stores, a cache.
        protocol: of the engines' group; `consumer` is KIP-848.
        is_static: it keeps its partitions over a restart under the same name.
        session_timeout_ms: time after which a silent engine loses its partitions.
        settings: settings of the engine's loop.
    """

    instance: str = field(default_factory=unique_name)
    state_dir: Path = STATE_DIR
    protocol: Literal["classic", "consumer"] = "classic"
    is_static: bool = False
    session_timeout_ms: int = 6_000
    settings: Settings = DEFAULTS


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker.

    Attributes:
        queues: the queues whose tasks it takes.
        concurrency: concurrent attempts.
        instance: its name; for people and histories.
        is_static: it keeps its partitions over a restart under the same name.
        session_timeout_ms: time after which the tasks of a silent worker go to others.
    """

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    concurrency: int = 200
    instance: str = field(default_factory=unique_name)
    is_static: bool = False
    session_timeout_ms: int = 6_000
