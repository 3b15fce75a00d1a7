"""The codec endpoint: decodes payloads with the app's codec, for those who must not have its keys.

It knows no workflows. The reader of a history gets encoded payloads from the platform, and sends
them here; the platform and its API never see the values.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from perdure.api.app import add_refusals
from perdure.api.auth.rates import REQUESTS_PER_S, RateLimit
from perdure.api.auth.sign_ins import FailedSignIns
from perdure.api.bodies import Payloads, body_of
from perdure.api.hubs import Hubs
from perdure.api.limits import Limits
from perdure.api.measures import Measures
from perdure.api.pages import LOOKS
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.api.routing import Routes, install, json
from perdure.api.sending import Budget
from perdure.errors import PayloadError

if TYPE_CHECKING:
    from starlette.responses import Response

    from perdure.api.admitted import AdmittedRequest
    from perdure.api.backend import Backend
    from perdure.api.routing import Admission, Route
    from perdure.codec.payloads import JsonPayloads

_log: Final = logging.getLogger("perdure.codec")
THREADS: Final = 8
MOST: Final = 1_000
"""The most payloads of a request."""


def create_codec_app(
    payloads: JsonPayloads,
    security: Admission,
    *,
    origins: Iterable[str] = (),
    measures: Measures | None = None,
    rate_limit: float = REQUESTS_PER_S,
) -> Any:
    """The ASGI application.

    Args:
        payloads: with the codec and the store of the app.
        security: admits requests.
        origins: the web pages that may call it, as `https://perdure.shop.example`.
        measures: count requests.
        rate_limit: requests per second and caller; 0 for no limit.
    """
    measures = measures or Measures()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "perdure-codec"))
        yield

    app = FastAPI(
        title="perdure codec", lifespan=lifespan, openapi_url=None, docs_url=None, redirect_slashes=False
    )
    app.state.rates = RateLimit(rate_limit)
    app.state.sign_ins = FailedSignIns(measures)
    app.state.answers = Budget()
    # its handlers ask nothing of a platform
    install(app, _routes_of(payloads), cast("Backend", None), security, None, base="")

    @app.api_route("/health/live", methods=LOOKS)
    async def live() -> Response:
        return json({"is_alive": True})

    add_refusals(app)
    if allowed := list(origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type"],
            max_age=600,
        )
    limited: Any = Limits(app, measures)
    limited.hub = Hubs()
    limited.routes = app.routes
    return limited


def _routes_of(payloads: JsonPayloads) -> list[Route]:
    routes = Routes()

    async def answered(asked: AdmittedRequest, verb: str, work: Callable[[bytes], bytes]) -> Response:
        given = (await body_of(asked.request, Payloads)).payloads
        if len(given) > MOST:
            raise problem("limit-exceeded", f"{len(given)} payloads; at most {MOST} at a time")
        done = await asyncio.to_thread(lambda: [_done(text, work) for text in given])
        refused = sum("error" in each for each in done)
        _log.info("%s %s %d payloads, %d of them in vain", asked.principal.name, verb, len(done), refused)
        return json({"payloads": done})

    @routes.add("POST", "/decode", Role.READER, "Decode payloads")
    async def decode(asked: AdmittedRequest) -> Response:
        return await answered(asked, "decoded", lambda data: payloads.to_json(data, what="the value"))

    @routes.add("POST", "/encode", Role.OPERATOR, "Encode JSON")
    async def encode(asked: AdmittedRequest) -> Response:
        return await answered(asked, "encoded", lambda data: payloads.of_json(data, what="the value"))

    return routes.all


def _done(text: str, work: Callable[[bytes], bytes]) -> dict[str, str]:
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return {"error": "it is not base64"}
    try:
        return {"data": b64encode(work(data)).decode()}
    except PayloadError as error:
        return {"error": str(error)}
