"""Functions that librdkafka calls: the one way to give it a callback.

On Python 3.11, C code sets an exception as a class and a text, and Python makes an object of them
where the exception is first caught. confluent-kafka 2.16 keeps only the text, so that the caller of
`poll`, `flush`, `consume` or `close` would see a SystemError instead, and its process would end.

An exception of a callback that has a task (a rebalance, a delivery, a commit) belongs to the
caller. One that only reports (an error, a line of the log, statistics) must not end a process: the
log is the operator's, and may have any handler or filter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec

P = ParamSpec("P")


def as_raised(callback: Callable[P, object]) -> Callable[P, None]:
    """A callback whose exceptions reach the caller as they are."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except BaseException:  # noqa: TRY203 - catching it makes the object
            raise

    return call


def never_raising(callback: Callable[P, object]) -> Callable[P, None]:
    """A callback that only reports: its exceptions are dropped."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(Exception, SystemExit):  # there is nowhere to report it
            callback(*args, **kwargs)

    return call


class ClientLogger:
    """Takes the log lines of a client and never raises.

    Args:
        logger: gets the lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.log = never_raising(logger.log)
