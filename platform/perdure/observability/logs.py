"""The log of a process: structlog on the standard library's `logging`, for lines of perdure,
libraries and your code.

Lines name the run and the attempt, which come from the context of the call.

No line shows the value of a local variable or of an argument, even if your code logged it: request
handlers hold credentials, activities hold customers' data. A traceback names files, lines and
functions, and the exception's message.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import structlog

from perdure.authoring.attempt import current_attempt
from perdure.model import runtime

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict, Processor

    from perdure.engine.operator_log import Report

QUIET: Final = ("watchfiles", "asyncio", "httpx", "uvicorn.access")
"""Loggers whose lines below WARNING do not help operators."""

_COROUTINE: Final = re.compile(r"coro=<([\w.<>]+)\(\)[^>]*? at ([^>\s]+:\d+)>")
_FRAMES: Final = 50
"""The most frames of a traceback in JSON; a recursion has a thousand."""

writes_json = False
"""Whether the process logs JSON: other output to standard error is JSON then, too."""


def configure(*, is_json: bool, level: int = logging.INFO) -> None:
    """Set up the log of the whole process on standard error, including uncaught exceptions of all
    threads and loops.

    Args:
        is_json: one JSON object a line; else a line for people.
        level: the lowest level that is written.
    """
    global writes_json
    writes_json = is_json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        with_coordinates,
        structlog.processors.TimeStamper(fmt="iso", utc=is_json),
        structlog.processors.StackInfoRenderer(),
    ]
    # structlog's defaults for both formats show local variables.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=_FRAMES)
    shown: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
        if is_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    _add_filters()
    _catch_the_uncaught()
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


def announce(message: str) -> bool:
    """Write one line of the command line's own into the log, if the log is JSON; whether it was.

    Args:
        message: for people.
    """
    if writes_json:
        logging.getLogger("perdure").info(message)
    return writes_json


class _Handler(logging.StreamHandler[Any]):
    """Writes lines; one that cannot be written is reported in the same format."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report the error without the record's arguments, which the standard library would
        print.
        """
        error = sys.exc_info()[1]
        if isinstance(error, OSError | RecursionError):
            return  # standard error is closed, or there is no stack left to report it
        message = f"a line of {record.pathname}:{record.lineno} could not be written: {type(error).__name__}"
        told = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, message, (), None
        )
        try:
            self.stream.write(self.format(told) + self.terminator)
            self.flush()
        except Exception:  # noqa: BLE001, S110 - there is no other place to tell
            pass


def _add_filters() -> None:
    for name, kind in (("asyncio", _WithoutArguments), ("uvicorn.error", _OfServer)):
        logger = logging.getLogger(name)
        if not any(isinstance(each, kind) for each in logger.filters):
            logger.addFilter(kind())


class _WithoutArguments(logging.Filter):
    """Removes arguments of callbacks from asyncio's lines: they may be data that a socket has just
    received.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what happened, and in which coroutine."""
        message = record.getMessage()
        first = message.partition("\n")[0].partition("(")[0]
        found = _COROUTINE.search(message)
        record.msg, record.args = (f"{first}: {found[1]} at {found[2]}" if found else first), ()
        return True


class _OfServer(logging.Filter):
    """Drops errors of requests that a stop has cut off, or whose clients went away."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Filter for one line."""
        if isinstance(record.msg, str):
            record.msg = record.msg.rstrip()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) or type(error).__name__ == "ClientDisconnect":
            return False  # Starlette's; it is not installed everywhere
        return not str(record.msg).startswith("Cancel %s running task")


def _catch_the_uncaught() -> None:
    logger = logging.getLogger("perdure")

    def of_main(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            logger.critical("uncaught exception", exc_info=(kind, error, traceback))

    def of_thread(caught: threading.ExceptHookArgs) -> None:
        if caught.exc_type is not SystemExit:
            thread = caught.thread.name if caught.thread is not None else ""
            error = caught.exc_value or caught.exc_type()
            logger.critical(
                "uncaught exception in a thread",
                exc_info=(caught.exc_type, error, caught.exc_traceback),
                extra={"of_thread": thread},
            )

    def of_nobody(caught: sys.UnraisableHookArgs) -> None:
        where = getattr(caught.object, "__qualname__", type(caught.object).__qualname__)
        error = caught.exc_value or caught.exc_type()
        logger.error(
            "exception that cannot be raised",
            exc_info=(caught.exc_type, error, caught.exc_traceback),
            extra={"where": where},
        )

    sys.excepthook = of_main
    threading.excepthook = of_thread
    sys.unraisablehook = of_nobody


def with_coordinates(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """A structlog processor that adds the run and the attempt that wrote the line."""
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
