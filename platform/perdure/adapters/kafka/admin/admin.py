"""Creates and verifies the topics of a namespace. It creates missing topics and reports
differences, but never changes a topic.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import confluent_kafka.admin
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from perdure import schemas
from perdure.adapters.kafka.admin.owner import fault_of
from perdure.adapters.kafka.admin.plan import Found, Plan, differences, plan_of
from perdure.adapters.kafka.namespace.metadata import (
    OWNER,
    Made,
    MadeTopic,
    facts_of,
    facts_of_ids,
    ids_of,
    made_of,
    owner_of,
    read_facts,
    write_facts,
)
from perdure.adapters.kafka.namespace.topics import COMMANDS, META, name_of
from perdure.adapters.kafka.reachability import cleaned, watched
from perdure.adapters.kafka.schema_registry.client import Registry, registry_of
from perdure.adapters.kafka.schema_registry.framing import faults_of
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.errors import InfrastructureError
from perdure.schemas import Schema

ANSWER_S: Final = 30.0
_kafka: Final[Any] = confluent_kafka.admin  # its annotations are incomplete


class Topics:
    """The topics of a namespace.

    Args:
        namespace: the prefix.
        settings: of librdkafka: `bootstrap.servers`, security and what else is not ours; and of a
            schema registry, in which `apply` registers the schemas.
        answer_s: how long to wait for Kafka.

    Raises:
        UsageError: a setting is ours, or the namespace cannot be part of a topic's name.
        InfrastructureError: a setting is wrong.
    """

    def __init__(self, namespace: str, settings: Mapping[str, object], *, answer_s: float = ANSWER_S) -> None:
        self._meta = name_of(namespace, META)
        self._namespace = namespace
        self._answer_s = answer_s
        self._trouble = ""
        self._settings: dict[str, Any] = {**of_librdkafka(checked(settings)), **watched(settings, self._told)}
        address = registry_of(settings)
        self._registry = Registry(address) if address else None
        try:
            self._admin = _kafka.AdminClient(self._settings)
        except KafkaException as error:
            raise InfrastructureError(f"invalid Kafka setting: {_words(error)}") from None

    def exist(self) -> bool:
        """Whether the namespace has topics.

        Raises:
            InfrastructureError: Kafka does not answer, or refuses.
        """
        try:
            return (
                name_of(self._namespace, COMMANDS) in self._admin.list_topics(timeout=self._answer_s).topics
            )
        except KafkaException as error:
            raise self._refused(error) from None

    def plan(
        self,
        *,
        partitions: int = 0,
        replication: int = 0,
        queues: Sequence[str] = (),
        owner: str = "",
        is_taken_over: bool = False,
    ) -> Plan:
        """The plan of `apply`: topics to create, and differences.

        Args:
            partitions: see `plan_of`, as for the next two.
            replication: the same.
            queues: the same.
            owner: the deployment that the topics are for; empty: any may be recorded.
            is_taken_over: another owner that is recorded is replaced.

        Raises:
            InfrastructureError: Kafka does not answer, or refuses.
            UsageError: a name cannot be part of a topic's.
        """
        try:
            cluster = self._admin.list_topics(timeout=self._answer_s)
            names = [name for name in cluster.topics if name.startswith(f"{self._namespace}.")]
            found = self._describe(names)
            facts = read_facts(self._settings, self._meta) if self._meta in found else {}
        except KafkaException as error:
            raise self._refused(error) from None
        plan = plan_of(
            self._namespace,
            found,
            made_of(facts),
            len(cluster.brokers),
            partitions=partitions,
            replication=replication,
            queues=queues,
        )
        fault = "" if is_taken_over or not owner else fault_of(self._namespace, owner_of(facts), owner)
        return replace(plan, owner=owner, faults=(fault, *plan.faults) if fault else plan.faults)

    def apply(self, plan: Plan) -> None:
        """Create missing topics, and record what was created. Repeating it changes nothing.

        Raises:
            InfrastructureError: something differs, or Kafka refuses; the message says what. Created
                topics are kept.
        """
        if plan.faults:
            raise InfrastructureError(in_one_message(plan.faults))
        subjects = subjects_of(plan)
        if self._registry and (
            faults := [fault for s, schema in subjects if (fault := self._registry.fault_of(s, schema.text))]
        ):
            raise InfrastructureError(f"the registry would reject schemas: {'; '.join(faults)}.")
        try:
            self._create(plan)
            found = self._wait_for(plan)
        except KafkaException as error:
            raise self._refused(error) from None
        made = Made(
            plan.replication,
            {w.topic.part: MadeTopic(found[w.name].partitions, found[w.name].id) for w in plan.wanted},
        )
        recorded = read_facts(self._settings, self._meta)
        facts = {**facts_of(made, plan.owner), **facts_of_ids(self._registered(subjects))}
        news = {name: fact for name, fact in facts.items() if recorded.get(name) != fact}
        if news:
            write_facts(self._settings, self._meta, news)
        # Of two that apply for the first time immediately, the later record counts: the other one
        # has to learn it.
        if OWNER in news and (
            fault := fault_of(self._namespace, owner_of(read_facts(self._settings, self._meta)), plan.owner)
        ):
            raise InfrastructureError(fault)

    def check(self, queues: Sequence[str] = (), owner: str = "") -> list[str]:
        """Differences from what was recorded and what is required, as text; empty: none.

        Args:
            queues: that are needed besides those recorded.
            owner: the deployment that the topics are for; empty: any may be recorded.

        Raises:
            InfrastructureError: Kafka does not answer, or refuses.
        """
        plan = self.plan(queues=queues, owner=owner)
        lost = {fault.partition(" ")[0] for fault in plan.faults}
        return [
            *plan.faults,
            *(
                f"{name} does not exist: create it with `perdure topics apply`"
                for name in plan.missing
                if name not in lost
            ),
            *([] if plan.missing else self._registry_faults()),
        ]

    def _registered(self, subjects: Sequence[tuple[str, Schema]]) -> dict[str, int]:
        """Ids by header; empty without a registry."""
        ids: dict[str, int] = {}
        if self._registry is None:
            return ids
        for subject, schema in subjects:
            number = self._registry.register(subject, schema.text)
            if ids.setdefault(schema.header.decode(), number) != number:
                raise InfrastructureError(
                    f"the registry at {self._registry.url} gave the schema {schema.name} two ids, "
                    f"{ids[schema.header.decode()]} and "
                    f"{number} ({subject}): ids must be global per schema, as in Confluent's registry"
                )
        return ids

    def _registry_faults(self) -> list[str]:
        if self._registry is None:
            return []
        ids = ids_of(read_facts(self._settings, self._meta))
        headers = [schemas.current(name).header.decode() for name in schemas.NAMES]
        missing = [
            f"the schema {header} is not registered: run `perdure topics apply`"
            for header in headers
            if header not in ids
        ]
        return missing or faults_of(self._registry, ids)

    def _describe(self, names: Sequence[str]) -> dict[str, Found]:
        if not names:
            return {}
        resources = self._admin.describe_configs(
            [_kafka.ConfigResource(_kafka.ResourceType.TOPIC, name) for name in names],
            request_timeout=self._answer_s,
        )
        configurations = {resource.name: future.result() for resource, future in resources.items()}
        described = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=self._answer_s)
        found: dict[str, Found] = {}
        for name, future in described.items():
            topic = future.result()
            found[name] = Found(
                id=str(topic.topic_id),
                partitions=len(topic.partitions),
                replication=min(len(partition.replicas) for partition in topic.partitions),
                configuration={
                    key: entry.value for key, entry in configurations[name].items() if entry.value is not None
                },
            )
        return found

    def _create(self, plan: Plan) -> None:
        new = [
            _kafka.NewTopic(
                w.name,
                w.partitions,
                w.replication,
                config={setting.name: setting.value for setting in w.configuration},
            )
            for w in plan.wanted
            if w.name in plan.missing
        ]
        if not new:
            return
        futures = self._admin.create_topics(new, operation_timeout=self._answer_s)
        for future in futures.values():
            try:
                future.result()
            except KafkaException as error:
                # another process was quicker; verified below
                if _error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _wait_for(self, plan: Plan) -> dict[str, Found]:
        """The topics, once every broker that is asked knows them; topics created by others since
        then are verified, too.
        """
        deadline = time.monotonic() + self._answer_s
        found: dict[str, Found] = {}
        while not found:
            try:
                found = self._describe([wanted.name for wanted in plan.wanted])
            except KafkaException as error:
                if _error(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                    raise
                self._admin.poll(0.05)
        if faults := [
            fault for wanted in plan.wanted for fault in differences(wanted, found[wanted.name], None)
        ]:
            raise InfrastructureError(in_one_message(faults))
        return found

    def _told(self, message: str) -> None:
        self._trouble = self._trouble or cleaned(message.partition(": ")[2])

    def _refused(self, exception: KafkaException) -> InfrastructureError:
        self._admin.poll(0)
        trouble = f" ({self._trouble})" if self._trouble else ""
        return InfrastructureError(
            f"Kafka at {self._settings.get('bootstrap.servers')}: {_words(exception)}{trouble}"
        )


def subjects_of(plan: Plan) -> list[tuple[str, Schema]]:
    """Subjects for a registry: that of each topic's values, with the current schema."""
    return [
        (f"{each.name}-value", schemas.current(each.topic.schema))
        for each in plan.wanted
        if each.topic.schema
    ]


def in_one_message(faults: Sequence[str]) -> str:
    """One message for all differences."""
    return f"the topics are not configured correctly: {'; '.join(faults)}."


def _error(exception: KafkaException) -> KafkaError:
    error: KafkaError = exception.args[0]
    return error


def _words(exception: KafkaException) -> str:
    return _error(exception).str()
