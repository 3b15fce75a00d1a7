"""The application: its routes, admission, and error responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from perdure.api import (
    answering,
    asking,
    auditing,
    intervening,
    jobs,
    operating,
    reading,
    scheduling,
    streams,
    updating,
    values,
)
from perdure.api.auth.rates import REQUESTS_PER_S, RateLimit
from perdure.api.auth.refusals import AccessRefused
from perdure.api.auth.sign_ins import FailedSignIns
from perdure.api.hubs import Hubs
from perdure.api.limits import Limits, TooLarge
from perdure.api.measures import Measures
from perdure.api.pages import DOCUMENT, LOOKS, PAGE, add_pages
from perdure.api.problems import Problem, of_error, problem
from perdure.api.routing import install, json
from perdure.api.sending import Budget
from perdure.errors import ClientError, InfrastructureError, UsageError
from perdure.model.tokens import hidden

if TYPE_CHECKING:
    from perdure.api.audit import AuditLog
    from perdure.api.backend import Backend
    from perdure.api.routing import Admission, Route

_log: Final = logging.getLogger("perdure.api")
THREADS: Final = 32
"""Threads for blocking work: readers of Kafka and PostgreSQL, dead letters, the audit trail."""
READY_S: Final = 5.0
ROUTES: Final[list[Route]] = [
    *streams.routes.all,
    *reading.routes.all,
    *asking.routes.all,
    *jobs.routes.all,
    *scheduling.routes.all,
    *updating.routes.all,
    *answering.routes.all,
    *intervening.routes.all,
    *values.routes.all,
    *operating.routes.all,
]
"""All routes except health and the OpenAPI document; the first match answers."""

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "examples": ["https://perdure.dev/problems/workflow-not-found"],
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
    },
}


def create_app(
    backend: Backend,
    security: Admission,
    audit: AuditLog | None = None,
    *,
    measures: Measures | None = None,
    rate_limit: float = REQUESTS_PER_S,
) -> Any:
    """The ASGI application of one namespace.

    Args:
        backend: the backend of the API; closed with the server.
        security: admits requests.
        audit: records the actions of operators, for admins to read; closed with the server.
        measures: count requests.
        rate_limit: requests per second and caller; 0 for no limit.
    """
    measures = measures or Measures()
    hubs = Hubs(backend.readable)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "perdure-api"))
        hubs.start(backend.feed)
        try:
            yield
        finally:
            hubs.say_goodbye()
            await backend.close()
            if audit is not None:
                await audit.close()

    app = FastAPI(
        title=f"perdure: {backend.namespace}",
        version=version("perdure"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would redirect to the host that the request names
    )
    app.state.hubs = hubs
    app.state.hub = hubs.whole
    app.state.rates = RateLimit(rate_limit)
    app.state.sign_ins = FailedSignIns(measures)
    app.state.answers = Budget()
    install(
        app,
        _ordered([*ROUTES, *(auditing.routes_of(audit) if audit is not None else [])]),
        backend,
        security,
        audit,
    )
    _add_health(app, backend)
    add_refusals(app)
    plain = app.openapi

    def document() -> dict[str, Any]:
        found = plain()
        components = found.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = _PROBLEM
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "An API key, or an OIDC token."}
        }
        return found

    app.openapi = document  # type: ignore[method-assign]
    add_pages(app, backend.namespace, document)
    limited: Any = Limits(app, measures)
    limited.hub = hubs
    limited.routes = app.routes
    return limited


def _ordered(routes: list[Route]) -> list[Route]:
    """Routes in their order: fixed paths before those with ids, since `/workflows/counts` is not a
    workflow.
    """
    return sorted(routes, key=lambda route: [part.startswith("{") for part in route.path.split("/")])


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.api_route("/health/live", methods=LOOKS, include_in_schema=False)
    async def live() -> Response:
        return json({"is_alive": True})

    @app.api_route("/health/ready", methods=LOOKS, include_in_schema=False)
    async def ready() -> Response:
        try:
            async with asyncio.timeout(READY_S):
                await backend.feed.begun()
                await backend.state("-")
        except (InfrastructureError, ClientError) as error:
            return json({"is_ready": False, "reason": str(error)}, 503)
        except TimeoutError:
            return json(
                {
                    "is_ready": False,
                    "reason": f"the database behind this API does not answer within {READY_S:g} s",
                },
                503,
            )
        return json({"is_ready": True})


def _methods_of(app: FastAPI, request: Request) -> list[str]:
    """Methods that a path accepts; the framework names the methods of its first route only."""
    found: set[str] = set()
    for route in app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def add_refusals(app: FastAPI) -> None:
    """Make every error a problem."""

    @app.exception_handler(Problem)
    async def of_ours(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(AccessRefused)
    async def of_access(_: Request, error: AccessRefused) -> Response:
        return Problem(error.status, error.slug, error.title, error.detail, error.headers).response()

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            takes = ", ".join(_methods_of(app, request)) or "another one"
            return problem(
                "method-not-allowed",
                f"{request.method} is not allowed on this route; use {takes}",
                {"Allow": takes},
            ).response()
        if error.status_code == 404:
            places = f"{DOCUMENT} lists all routes, {PAGE} shows them as a page"
            return problem("not-found", f"there is no route {request.url.path[:200]!r}; {places}").response()
        return Problem(error.status_code, "http", "The request was refused", str(error.detail)).response()

    for kind in (ClientError, UsageError, InfrastructureError):

        @app.exception_handler(kind)
        async def of_perdure(_: Request, error: Exception) -> Response:
            found = of_error(error)
            assert found is not None
            return found.response()

    @app.exception_handler(TooLarge)
    async def of_size(_: Request, error: TooLarge) -> Response:
        return problem("limit-exceeded", str(error)).response()

    @app.exception_handler(ClientDisconnect)
    async def of_a_client_that_left(request: Request, _: ClientDisconnect) -> Response:
        _log.debug(
            "%s %s: the client disconnected before its request was complete",
            request.method,
            hidden(request.url.path),
        )
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def of_ours_by_mistake(request: Request, error: Exception) -> Response:
        _log.exception("%s %s", request.method, hidden(request.url.path), exc_info=error)
        return problem("internal", "internal error; see the API server's log").response()
