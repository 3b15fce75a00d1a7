"""The API over a platform in memory, asked as a caller asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from perdure import activity, workflow
from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.api.backend import Backend
from perdure.embedded import Platform
from perdure.registry import Registry


@dataclass
class Status:
    """The place of the parcel."""

    place: str
    is_delivered: bool = False


@activity.step
async def weigh(parcel: str) -> int:
    return len(parcel)


@workflow.defn
class Parcel:
    def __init__(self) -> None:
        self.place = "shop"
        self.is_delivered = False

    @workflow.run
    async def carry(self, parcel: str, fails: bool = False) -> int:
        grams = await weigh(parcel)
        self.place = "van"
        await workflow.wait_until(lambda: self.is_delivered, timeout="1h")
        if fails:
            raise workflow_failure()
        self.place = "home"
        return grams

    @workflow.signal
    def move(self, place: str) -> None:
        self.place = place

    @workflow.signal
    def deliver(self) -> None:
        self.is_delivered = True

    @workflow.update
    async def relabel(self, label: str) -> str:
        if label == "torn":
            raise ValueError("the label is torn")
        place = self.place
        await workflow.sleep("1ms")
        return f"{place}: {label}"

    @relabel.validator
    def _may_relabel(self, label: str) -> None:
        if not label:
            raise ValueError("a label has text")

    @workflow.update
    async def hand_over(self) -> str:
        await workflow.wait_until(lambda: self.is_delivered)
        return "handed over"

    @workflow.query
    def where(self, suffix: str = "") -> str:
        if suffix == "raise":
            raise ValueError("nowhere")
        return self.place + suffix

    @workflow.view
    def status(self) -> Status:
        return Status(self.place, self.is_delivered)


def workflow_failure() -> Exception:
    from perdure.errors import Failure

    return Failure("fell from the van")


class Caller:
    """Asks one API."""

    def __init__(self, http: httpx.AsyncClient, app: Any, platform: Platform) -> None:
        self.http = http
        self.app = app
        self.platform = platform

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer."""
        return await self.ask("GET", path, status, **options)

    async def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """The same."""
        return await self.ask("POST", path, status, json=body, **options)

    async def ask(self, method: str, path: str, status: int, **options: Any) -> Any:
        answer = await self.http.request(method, path, **options)
        assert answer.status_code == status, (answer.status_code, answer.text)
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem["type"].startswith("https://perdure.dev/problems/")
            assert problem["status"] == status
            assert problem["detail"]
            return problem
        return answer.json() if answer.content else None

    async def start(self, id: str, *args: Any, status: int = 201, **options: Any) -> Any:
        """A parcel."""
        return await self.post(
            "/workflows",
            {"type": "Parcel", "id": id, "args": list(args) or ["box"], "options": options},
            status,
        )

    async def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """Ask until it holds."""
        async with asyncio.timeout(20):
            while not condition(found := await self.get(path)):
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def api(security: Any = None, audit: Any = None, **backend: Any) -> AsyncGenerator[Caller]:
    registry = Registry.of([Parcel], [weigh])
    with Platform(registry, "memory://") as platform:
        transport = platform.client()._transport
        backend = {"registry": registry, "feed": LocalStateFeed(platform._adapters.channel), **backend}
        app = create_app(Backend("shop", transport, **backend), security or Unsecured(), audit)
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost/api/v1"
        )
        async with app._app.router.lifespan_context(app._app), http:
            yield Caller(http, app, platform)


def run(test: Callable[[Caller], Awaitable[None]], **options: Any) -> None:
    """One test on an API of its own."""

    async def main() -> None:
        async with asyncio.timeout(60), api(**options) as caller:
            await test(caller)

    asyncio.run(main())
