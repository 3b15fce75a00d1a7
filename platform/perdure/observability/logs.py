"""The log of a process: structlog behind the standard library's `logging`, for our lines, libraries' and authors' alike.

A line says which run and which attempt it is about, whoever wrote it: both are known from the context it was written in.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

from perdure._attempt import current_attempt
from perdure.model import runtime

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from perdure.engine.report import Report

QUIET: Final = ("watchfiles", "asyncio", "httpx", "uvicorn.access")
"""Loggers whose news are none to an operator."""


def configure(*, is_json: bool, level: int = logging.INFO) -> None:
    """The whole process logs to standard error from here.

    Args:
        is_json: one JSON object a line; else a line for people.
        level: the least one that is written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        with_coordinates,
        structlog.processors.TimeStamper(fmt="iso", utc=is_json),
        structlog.processors.StackInfoRenderer(),
    ]
    shown: list[Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
        if is_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown]
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def with_coordinates(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """A structlog processor: which run, and which attempt, wrote the line."""
    if (attempt := current_attempt()) is not None and (info := attempt.info) is not None:
        line.setdefault("workflow_id", info.workflow_id)
        line.setdefault("run_id", info.run_id)
        line.setdefault("activity", info.activity)
        line.setdefault("attempt", info.attempt)
    elif (running := runtime.current()) is not None:
        run = running.info()
        line.setdefault("workflow_id", run.workflow_id)
        line.setdefault("run_id", run.run_id)
        line.setdefault("workflow_type", run.type)
    return line


def report_to(name: str) -> Report:
    """A `Report` that writes to the log.

    Args:
        name: of the logger.
    """
    logger: Any = structlog.stdlib.get_logger(name)

    def report(message: str, /, **where: str | int) -> None:
        logger.warning(message, **where)

    return report
