"""The owner of a namespace: one deployment's name, recorded in the meta topic by `perdure topics
apply --owner`.

Two deployments that chose the same namespace on one Kafka would share every topic and consumer
group, and run each other's workflows with their own code. The setup and every process of the second
one refuse instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.adapters.kafka.namespace.metadata import owner_of, read_facts
from perdure.adapters.kafka.namespace.topics import META, name_of
from perdure.adapters.kafka.reachability import watched
from perdure.adapters.kafka.settings import of_librdkafka
from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread

ANSWER_S: Final = 5.0
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0


def fault_of(namespace: str, recorded: str, owner: str) -> str:
    """Why the owner may not use the namespace; empty: it may, or no owner is recorded yet."""
    if recorded in {"", owner}:
        return ""
    return (
        f"the topics of {namespace} belong to {recorded}, not to {owner}: use another namespace. To take "
        "them over on purpose, stop "
        f"{recorded} and run `perdure topics apply --owner {owner} --take-over` (in the chart: "
        "kafka.takeOver=true)"
    )


class OwnerCheck:
    """Checks the owner of a namespace, now or as soon as one is recorded.

    Args:
        namespace: whose topics are used.
        settings: of librdkafka, checked.
        owner: this deployment's name.
        read: reads the facts of the namespace; for tests.
    """

    def __init__(
        self,
        namespace: str,
        settings: Mapping[str, Any],
        owner: str,
        *,
        read: Callable[[], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._namespace = namespace
        self._owner = owner
        self._read = read or self._read_facts
        self._settings: dict[str, Any] = of_librdkafka(settings)

    def is_settled(self) -> bool:
        """Whether an owner is recorded, and it is this deployment. False: the topics cannot be read
        yet, or have no owner yet.

        Raises:
            InfrastructureError: the topics belong to another owner.
        """
        try:
            recorded = owner_of(self._read())
        except InfrastructureError:
            return False  # the process waits for Kafka and its topics, and says so
        if fault := fault_of(self._namespace, recorded, self._owner):
            raise InfrastructureError(fault)
        return bool(recorded)

    def watch(self, refused: Callable[[str], None], wait: Callable[[float], bool]) -> None:
        """Check until an owner is recorded.

        Args:
            refused: called once, when the topics belong to another owner.
            wait: pauses for some seconds; True ends the watch.
        """
        pause = FIRST_PAUSE_S
        while not wait(pause):
            try:
                if self.is_settled():
                    return
            except InfrastructureError as error:
                refused(str(error))
                return
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def start(self, refused: Callable[[str], None]) -> None:
        """Watch on a thread that ends with the process."""
        wait = threading.Event().wait
        WatchedThread(target=self.watch, args=(refused, wait), name="perdure-owner").start()

    def _read_facts(self) -> Mapping[str, bytes]:
        return read_facts(
            {**self._settings, **watched(self._settings)}, name_of(self._namespace, META), ANSWER_S
        )
