"""Watches whether Kafka is reachable, and reports an outage in one line with its reason, repeated
every half minute.

librdkafka writes a line for each client and each try to connect, some two hundred in ten seconds,
and only when the client is polled; a call that blocks says nothing at all. So each process has a
watch for each cluster. It looks with a client of its own when the first client is made and whenever
one of them fails, and ends when Kafka answers.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException

from perdure.adapters.kafka.callbacks import ClientLogger, never_raising
from perdure.adapters.kafka.error_classes import in_words
from perdure.adapters.kafka.settings import of_librdkafka
from perdure.threads import WatchedThread

POLL_INTERVAL_S: Final = 1.5
"""Kafka is away when it has not answered for this long: a broker that fails is replaced sooner by
its peers, seconds."""
RETRY_AFTER_S: Final = 30.0
"""A lasting outage is reported again after this time, seconds."""
PAUSE_S: Final = 1.0
"""Between two looks at a Kafka that answers, seconds."""
REQUEST_TIMEOUT_S: Final = 0.5
UNWANTED_S: Final = 60.0
"""Clients that cannot connect report it every few seconds; after this long without a report, all
are closed and the watch ends, seconds.
"""
_PROBED: Final = "perdure.probe"

_logger: Final = logging.getLogger("perdure.kafka")
_of_librdkafka: Final = logging.getLogger("perdure.kafka.client")
_silent: Final = logging.getLogger("perdure.kafka.probe")
_silent.setLevel(logging.CRITICAL + 1)

_BROKER: Final = re.compile(r"^(\[thrd:[^]]*\]: )?\S+?:\d+/\w+: ")
_STATE: Final = re.compile(r"\s*\(after \d+ms in state [A-Z_]+(, \d+ identical error\(s\) suppressed)?\)$")
_CLOSED: Final = re.compile(r"Broken pipe|reset by peer|[Dd]isconnected")
_HINTS: Final = {
    KafkaError._RESOLVE: "check the host name",  # noqa: SLF001  so named by the client
    KafkaError._AUTHENTICATION: "check the user name and the password",  # noqa: SLF001
    KafkaError._SSL: "check security.protocol and the certificates",  # noqa: SLF001
    KafkaError._BAD_MSG: "the listener there is not Kafka, or it requires TLS: check security.protocol",  # noqa: SLF001
}


class Watch:
    """Watches whether a cluster answers.

    Args:
        settings: of librdkafka, to connect with.
        say: called with a line for operators.
    """

    def __init__(self, settings: Mapping[str, Any], say: Callable[[str], None] = _logger.warning) -> None:
        self._settings = settings
        self._say = say
        self._lock = Lock()
        self._thread: WatchedThread | None = None
        self._is_wanted = False
        self._wanted_at = 0.0
        self._answered_at = -PAUSE_S
        self._failing = ""
        self._failing_said_at = -RETRY_AFTER_S
        self.is_away = False
        self.logger = _of_librdkafka

    def listen(self, number: int) -> None:
        """Receive librdkafka's reports about clients of this cluster only.

        Args:
            number: of this watch in the process.
        """
        self.logger = logging.getLogger(f"{_of_librdkafka.name}.{number}")
        self.logger.addFilter(_Quiet(self))

    def look(self, failing: str = "") -> None:
        """Watch until Kafka responds; returns immediately.

        Args:
            failing: a client's report about a broker; it is repeated when the other brokers answer.
        """
        with self._lock:
            self._failing = failing or self._failing
            self._is_wanted = True
            self._wanted_at = time.monotonic()
            if self._thread is None:
                self._thread = WatchedThread(target=self._run, name="perdure-kafka-watch")
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._is_wanted:
                    self._thread = None
                    return
                self._is_wanted = False
            # a broker that is down wakes us all the time
            time.sleep(max(0.0, self._answered_at + PAUSE_S - time.monotonic()))
            try:
                self._until_it_answers()
            except KafkaException:
                pass  # a setting is wrong: the creator of the client reports that
            finally:
                self.is_away = False
                self._answered_at = time.monotonic()

    def _until_it_answers(self) -> None:
        probe = _Probe(self._settings)
        since = time.monotonic()
        said_at = 0.0
        while not probe.answers():
            now = time.monotonic()
            if now - self._wanted_at > UNWANTED_S:
                return
            if now - since < POLL_INTERVAL_S or (said_at and now - said_at < RETRY_AFTER_S):
                continue
            said_at = now
            self.is_away = True
            self._say(
                f"Kafka at {self._where} cannot be reached: {probe.reason}; no answer "
                f"for {now - since:.0f} s, retrying"
            )
        if said_at:
            self._say(f"Kafka at {self._where} responds again after {time.monotonic() - since:.0f} s")
        elif self._failing and time.monotonic() - self._failing_said_at > RETRY_AFTER_S:
            self._failing_said_at = time.monotonic()
            self._say(f"Kafka at {self._where} responds, but one of its brokers does not: {self._failing}")
        self._failing = ""

    @property
    def _where(self) -> str:
        return str(self._settings.get("bootstrap.servers", ""))


class _Probe:
    """A client that only checks whether the cluster answers."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._errors: list[KafkaError] = []
        ours: dict[str, Any] = {
            "group.id": _PROBED,
            "allow.auto.create.topics": False,
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": never_raising(self._errors.append),
            "logger": ClientLogger(_silent),
        }
        self._consumer = Consumer({**settings, **ours})

    def answers(self) -> bool:
        """Ask for a topic that need not exist; takes half a second when there is no answer."""
        try:
            self._consumer.list_topics(_PROBED, timeout=REQUEST_TIMEOUT_S)
        except KafkaException:
            self._consumer.poll(0)
            return False
        self._consumer.close()
        return True

    @property
    def reason(self) -> str:
        """The last error that said more than that all brokers are down."""
        reasons = [each for each in self._errors if each.code() != KafkaError._ALL_BROKERS_DOWN]  # noqa: SLF001
        self._errors.clear()
        if not reasons:
            return f"no answer within {POLL_INTERVAL_S:g} s (check host, port and security.protocol)"
        text = reasons[-1].str()
        hint = _HINTS.get(reasons[-1].code(), _HINTS[KafkaError._SSL] if "SSL" in text else "")  # noqa: SLF001
        if not hint and _CLOSED.search(text):
            hint = "the broker closes the connection: check security.protocol"
        return cleaned(text) + (f" ({hint})" if hint else "")


class _Quiet(logging.Filter):
    """Of librdkafka's lines, those about connections go to the watch of their cluster; of the
    others, one of a kind in half a minute.

    Args:
        watch: of the cluster; None: it is not known, and the lines are left out.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        super().__init__()
        self._watch = watch
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Filter of librdkafka's log lines."""
        if record.levelno < logging.WARNING:
            return True
        kind, _, text = record.getMessage().partition(" ")
        if kind in {"FAIL", "ERROR"}:
            if self._watch is not None:
                self._watch.look(cleaned(text.partition("] ")[2] or text))
            return False
        now = time.monotonic()
        passed_at, left_out = self._passed.get((kind, record.levelno), (-RETRY_AFTER_S, 0))
        if now - passed_at < RETRY_AFTER_S:
            self._passed[kind, record.levelno] = (passed_at, left_out + 1)
            return False
        self._passed[kind, record.levelno] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more of this kind)", ()
        return True


_of_librdkafka.addFilter(_Quiet())
_watches: Final[dict[tuple[tuple[str, str], ...], Watch]] = {}
_lock: Final = Lock()


def watched(settings: Mapping[str, Any], on_error: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Client configuration that reports to the watch, in addition to the client's own settings.

    Args:
        settings: of librdkafka, from outside; those of a schema registry are passed over.
        on_error: called with what the client says is wrong.
    """
    watch = _watch_of(of_librdkafka(settings))
    watch.look()

    def on_client_error(error: KafkaError) -> None:
        if error.code() < 0:
            watch.look()
        on_error(in_words(error))

    return {"logger": ClientLogger(watch.logger), "error_cb": never_raising(on_client_error)}


def is_away(settings: Mapping[str, Any]) -> bool:
    """Whether this process has said that a cluster cannot be reached, and still looks for it.

    Args:
        settings: of librdkafka, as its clients were made with; those of a schema registry are
            passed over.
    """
    return _watch_of(of_librdkafka(settings)).is_away


def cleaned(text: str) -> str:
    """A librdkafka connection error, without its internal names."""
    return _STATE.sub("", _BROKER.sub("", text.strip()))


def _watch_of(settings: Mapping[str, Any]) -> Watch:
    of_connection = {
        name: value
        for name, value in settings.items()
        if name.startswith(
            (
                "bootstrap.",
                "metadata.broker.",
                "broker.address.",
                "client.dns.",
                "security.",
                "sasl.",
                "ssl.",
                "enable.ssl.",
            )
        )
    }
    key = tuple(sorted((name, str(value)) for name, value in of_connection.items()))
    with _lock:
        watch = _watches.get(key)
        if watch is None:
            watch = _watches[key] = Watch(of_connection)
            watch.listen(len(_watches))
        return watch
