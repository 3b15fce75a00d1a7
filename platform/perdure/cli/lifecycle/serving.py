"""`perdure dev`: loads the app, starts it, prints its addresses, and restarts with the new code
when files change.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from perdure.adapters.sqlite.file import announce, path_of
from perdure.cli.error_line import one_line
from perdure.cli.lifecycle.dev_api import DevApi
from perdure.cli.lifecycle.reloading import RESTARTED, Reloader, changes, start_again
from perdure.cli.lifecycle.signals import LostThread, stop_on_signal
from perdure.cli.lifecycle.web import WebServer
from perdure.cli.loading import App, blamed, is_of_author, load_and_register
from perdure.cli.options.database import DEFAULT_DB
from perdure.cli.options.metrics import Observing, say
from perdure.embedded import Platform
from perdure.engine.processor import DEFAULTS, Settings
from perdure.errors import InfrastructureError, UsageError
from perdure.model.signature import signature_of
from perdure.observability.observed import Medium, Observed

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.api.backend import Backend
    from perdure.engine.operator_log import Report
    from perdure.ports.audit import AuditTrail
    from perdure.registry import Registry

OURS: Final = "perdure."
"""How the names of workflows and activities begin that perdure adds to an app."""


@dataclass(frozen=True)
class ServeOptions:
    """Options of `perdure dev`.

    Attributes:
        target: a file or a module.
        db: the database's or the namespace's URL.
        host: the host of the web app.
        port: the port of the web app.
        is_reloaded: whether it restarts when a file changes.
        observing: the monitoring options.
        make: creates the platform; by default the embedded platform on the database.
        has_web: whether the app's own web app is served.
        is_web_asked: whether its host or port was given.
        needs_workflows: whether an app without workflows is refused.
        grace_s: how long running attempts may take when it stops, seconds.
        api: creates the backend of the HTTP API for the platform; None: no API.
        api_port: the port of the API; None: any.
        engine: the settings of the embedded platform's engine.
    """

    target: str
    db: str
    host: str = ""
    _: KW_ONLY
    port: int = 0
    is_reloaded: bool = False
    observing: Observing = field(default_factory=Observing)
    make: Callable[[Registry, Report], Running] | None = None
    has_web: bool = True
    is_web_asked: bool = False
    needs_workflows: bool = True
    grace_s: float = 10.0
    api: Callable[[Any, Registry], tuple[Backend, AuditTrail]] | None = None
    api_port: int | None = None
    engine: Settings = DEFAULTS


class Running(Protocol):
    """A platform, or a part of one, in this process."""

    def run_forever(self, ready: Callable[[], None]) -> None:
        """Serve until `request_stop`; `ready` is called once it has begun."""

    def request_stop(self, grace_s: float) -> None:
        """Ask for a stop and return immediately."""

    def observed(self) -> Observed:
        """The parts of the process that are monitored."""
        ...


def serve(served: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM. Does not return if the process is replaced by one with new
    code.

    Raises:
        UsageError: the app is invalid.
        InfrastructureError: the database or the port cannot be used.
    """
    served.observing.begin()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    os.environ["PERDURE_URL"] = served.db  # the app's own clients use it
    since_ns = time.time_ns()
    if served.make is None and served.db.startswith("sqlite:"):
        # a client that the app opens during its import comes before the engine
        announce(path_of(served.db))
    app, registry = _load(served, since_ns)
    web = WebServer.of(app.module, served.host, served.port) if served.has_web else None
    platform = (served.make or _embedded(served))(registry, served.observing.report("perdure.engine"))
    metrics = served.observing.server(platform.observed())
    api = DevApi.of(partial(served.api, platform, registry), served.api_port) if served.api else None
    is_ready = False

    def stop() -> None:
        for each in (web, api):
            if each:
                each.stop()
        platform.request_stop(served.grace_s)

    files = [Path(module.__file__ or "") for module in app.modules()]
    reloader = Reloader(served.target, app.directory, stop, files, since_ns) if served.is_reloaded else None

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        for each in (web, api):
            if each:
                each.start()
        _print_banner(served, app, registry, web, api, metrics.url if metrics else "")

    is_signalled = stop_on_signal(stop)
    lost = LostThread(stop, served.grace_s)
    if reloader:
        reloader.start()
    if metrics:
        metrics.start()
    try:
        platform.run_forever(ready)
        lost.check()
    except (InfrastructureError, UsageError):
        raise
    except Exception as error:
        if is_ready or not is_of_author(error, app.directory):
            raise
        # a provider of the app cannot be opened
        raise UsageError(blamed(error, served.target, app.directory)) from error
    finally:
        for each in (web, api):
            if each:
                each.stop()
                each.join()
        if metrics:
            metrics.stop()
        if reloader:
            reloader.close()
    if reloader and reloader.is_wanted and not is_signalled():
        start_again()


def _embedded(served: ServeOptions) -> Callable[[Registry, Report], Running]:
    return lambda registry, report: _Embedded(
        Platform(registry, served.db, settings=served.engine, report=report)
    )


@dataclass(frozen=True)
class _Embedded:
    platform: Platform

    def run_forever(self, ready: Callable[[], None]) -> None:
        self.platform.run_forever(ready)

    def request_stop(self, grace_s: float) -> None:
        self.platform.request_stop(grace_s)

    def observed(self) -> Observed:
        platform = self.platform
        reader = platform.reader()
        medium = reader if isinstance(reader, Medium) else None
        return Observed(
            platform.engine, platform.worker, platform.steps, attempts=platform.attempts, medium=medium
        )


def _load(served: ServeOptions, since_ns: int) -> tuple[App, Registry]:
    """Load the app. If it is broken after a restart, by a later save, wait until it is fixed."""
    is_restarted = bool(os.environ.pop(RESTARTED, ""))
    try:
        runs_activities = served.make is None or not served.needs_workflows
        return load_and_register(
            served.target, needs_workflows=served.needs_workflows, runs_activities=runs_activities
        )
    except UsageError as error:
        if not is_restarted:
            raise
        said = one_line(error)
    path = Path(served.target)
    for changed in changes(path.parent if path.exists() else Path.cwd(), threading.Event()):
        if said:
            say(f"perdure: {said} (waiting until it is fixed)")
            said = ""
        if changed or (path.exists() and path.stat().st_mtime_ns > since_ns):
            break
    return start_again()


def _print_banner(
    served: ServeOptions,
    app: App,
    registry: Registry,
    web: WebServer | None,
    api: DevApi | None,
    metrics: str,
) -> None:
    from perdure.cli.output import print_facts

    activities = [
        f"{name} (step)" if registry.activities[name].is_local else name
        for name in sorted(registry.activities)
        if not name.startswith(OURS)
    ]
    print_facts(
        [
            ("perdure", f"serving {served.target}"),
            ("workflows", ", ".join(sorted(_of_the_app(registry)))),
            ("activities", ", ".join(activities)),
            ("triggers", ", ".join(_triggers(registry))),
            ("kafka" if served.db.startswith("kafka:") else "database", served.db),
            ("web", _web_in_words(served, web)),
            ("api", _api_in_words(served, api)),
            ("metrics", metrics and f"{metrics}/metrics, {metrics}/health/ready"),
            ("try", _first_command(registry, served.db)),
            (
                "reload",
                f"when a file in {app.directory} is saved; Ctrl-C stops" if served.is_reloaded else "",
            ),
        ]
    )
    sys.stdout.flush()


def _web_in_words(served: ServeOptions, web: WebServer | None) -> str:
    if web is None:
        return (
            f"none: {served.target} has no attribute `web`, for which --host and --port are; the HTTP API "
            "has --api-port"
            if served.is_web_asked
            else ""
        )
    return web.url


def _api_in_words(served: ServeOptions, api: DevApi | None) -> str:
    if api is None:
        return "not served: pip install 'perdure[api]'" if served.api else ""
    return f"{api.url}/api/v1, {api.url}/docs, {api.url}/openapi.json"


def _triggers(registry: Registry) -> list[str]:
    """Describe the triggers of an app."""
    from perdure.codec.payloads import JsonPayloads
    from perdure.triggers.binding import Bindings

    return Bindings(registry, JsonPayloads()).in_words()


def _of_the_app(registry: Registry) -> list[str]:
    """The workflow types that the app defines, without `perdure.echo`."""
    return [name for name in registry.workflows if not name.startswith(OURS)]


def _first_command(registry: Registry, db: str) -> str:
    """The command that starts the app's first workflow from another terminal."""
    if not db.startswith(("sqlite:", "kafka:")):
        return ""
    address = [] if db == DEFAULT_DB else ["--db", db]
    for name in _of_the_app(registry):
        parameters = signature_of(registry.workflows[name].run_fn).parameters.values()
        if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
            continue  # the command line passes values by position
        values = [
            each.name.upper() for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
        ]
        return " ".join(["perdure workflow start", f"{name.lower()}-1", name, *values, *address])
    return ""
