"""Routes, each with the role it requires: the only way from a request to a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from perdure.adapters.http.contract import BASE, PROBLEM
from perdure.api.admitted import AdmittedRequest
from perdure.api.audited import audited
from perdure.api.auth.principal import NOBODY_ASKED, Principal
from perdure.api.auth.refusals import Unauthenticated
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.api.sending import answer

if TYPE_CHECKING:
    from perdure.api.audit import AuditLog
    from perdure.api.backend import Backend

Bearer = Callable[[Request], Principal | None]
Handler = Callable[["AdmittedRequest"], Awaitable[Response]]
ENCODER: Final = msgspec.json.Encoder()
ANSWER_S: Final = 90.0
"""The longest time of a response; the longest wait that a client may ask for is a minute. A stream
must begin within it."""


class Admission(Protocol):
    """Admits requests: `auth.security.Security`, or `Unsecured`."""

    async def admit(self, headers: Any, role: Role) -> Principal: ...


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: the HTTP method.
        path: the path below the base.
        role: the lowest role that is enough.
        handler: the handler.
        summary: for people.
        extra: further fields of its OpenAPI operation.
        action: its name in the audit log; empty: it is not audited.
        bearer: returns the principal if the request itself is a credential; None: the request must
            be admitted.
    """

    method: str
    path: str
    role: Role
    _: KW_ONLY
    handler: Handler
    summary: str
    extra: dict[str, Any]
    action: str = ""
    bearer: Bearer | None = None


class Routes:
    """Collects routes."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        role: Role,
        summary: str,
        *,
        action: str = "",
        bearer: Bearer | None = None,
        **extra: Any,
    ) -> Callable[[Handler], Handler]:
        """Decorator that makes a function the handler of a route; `extra` has fields of its OpenAPI
        operation.
        """

        def added(handler: Handler) -> Handler:
            self.all.append(
                Route(
                    method,
                    path,
                    role,
                    handler=handler,
                    summary=summary,
                    extra=extra,
                    action=action,
                    bearer=bearer,
                )
            )
            return handler

        return added


def install(
    app: FastAPI,
    routes: list[Route],
    backend: Backend,
    security: Admission,
    audit: AuditLog | None,
    *,
    base: str = BASE,
) -> None:
    """Add the routes to an application, below a base path."""
    for route in routes:
        app.add_api_route(
            base + route.path,
            _endpoint(route, backend, security, audit),
            methods=[route.method],
            summary=route.summary,
            operation_id=route.handler.__name__,
            response_class=Response,
            openapi_extra=_operation(route),
        )


def json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response in JSON."""
    return encoded(ENCODER.encode(value), status, headers)


def encoded(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response whose JSON is already encoded; large JSON is encoded in a thread."""
    return answer(body, status, headers, "application/json")


def _endpoint(route: Route, backend: Backend, security: Admission, audit: AuditLog | None) -> Any:
    handler, role, action = route.handler, route.role, route.action

    async def admitted(request: Request) -> AdmittedRequest:
        admit = partial(security.admit, request.headers, role)
        bearer = route.bearer(request) if route.bearer is not None else None
        try:
            principal = bearer or await admit()
        except Unauthenticated as refusal:
            request.app.state.sign_ins.add(request, refusal)
            raise
        if principal is not NOBODY_ASKED and (seconds := request.app.state.rates.take(principal.name)):
            detail = f"{principal.name} exceeded this server's rate limit; retry in {seconds} s"
            raise problem("rate-limited", detail, {"Retry-After": str(seconds)})
        return AdmittedRequest(request, backend, principal, admit)

    async def endpoint(request: Request) -> Response:
        if not action or audit is None:
            return await answered(await admitted(request))
        async with audited(audit, action, request, is_path_secret=route.bearer is not None) as record:
            record.asked = await admitted(request)
            record.response = await answered(record.asked)
        return record.response

    async def answered(asked: AdmittedRequest) -> Response:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await handler(asked)
        except TimeoutError:
            raise problem("timeout", f"no answer within {ANSWER_S:g} s; it is safe to retry") from None

    return endpoint


def _operation(route: Route) -> dict[str, Any]:
    problems = {
        "description": "The request was refused",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    operation: dict[str, Any] = {
        "x-perdure-role": route.role.value,
        "security": [{"token": []}] if route.bearer is None else [{"token": []}, {}],
        "parameters": [_path_parameter(name) for name in _names(route.path)]
        + route.extra.get("parameters", []),
        "responses": {"default": problems, **route.extra.get("responses", {})},
    }
    if body := route.extra.get("body"):
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    if text := route.extra.get("description"):
        operation["description"] = text
    return operation


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "Percent-encoded as one segment: a slash is %2F.",
    }


__all__ = ["Admission", "AdmittedRequest", "Handler", "Route", "Routes", "install", "json"]
