"""Classifies the errors of Kafka's transaction API. docs/internals/kafka.md has the table."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException


class ErrorClass(Enum):
    """Of an error."""

    AGAIN = auto()
    """Not known yet: the same call, again, and nothing else."""
    ABORT = auto()
    """Nothing was recorded; the transaction has to be aborted, the producer lives on."""
    FENCED = auto()
    """The producer is of no more use, and what became of the transaction is what the committed
    offset says."""


def error_of(exception: KafkaException) -> KafkaError:
    """The error inside an exception."""
    return cast("KafkaError", cast("Any", exception).args[0])


def class_of(error: KafkaError) -> ErrorClass:
    """Classify an error. The order matters: an error may be both fatal and abortable.

    An error that is not one of the three is about our use of the client. It says nothing about the
    outcome, so that the producer is given up as if it were fenced.
    """
    if error.fatal():
        return ErrorClass.FENCED
    if error.txn_requires_abort():
        return ErrorClass.ABORT
    if error.retriable():
        return ErrorClass.AGAIN
    return ErrorClass.FENCED


def in_words(error: KafkaError) -> str:
    """For people."""
    return f"{error.name()}: {error.str()}"
