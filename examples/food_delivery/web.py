"""The two pages, and the few requests they make. All it knows of the platform is its client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from food_delivery.attempts import feed
from food_delivery.board import Watch, read
from food_delivery.catalogue import PRODUCTS, WAIT
from food_delivery.streams import Event, stream
from food_delivery.workflows import Order
from perdure.client import Client, Handle
from perdure.errors import (
    ClientError,
    InfrastructureError,
    RequestRefused,
    WorkflowAlreadyStarted,
    WorkflowNotFound,
)

PAGES: Final = Path(__file__).parent / "pages"


async def menu(_: Request) -> Response:
    return answer({"products": list(PRODUCTS.values()), "wait": WAIT})


async def place(request: Request) -> Response:
    """Start the workflow. The id comes from the browser, so sending the same order again starts
    nothing."""
    order = msgspec.json.decode(await request.body(), type=NewOrder)
    try:
        await client(request).options(if_closed="refuse").start(str(order.id), Order.process, order.product)
    except WorkflowAlreadyStarted:
        return answer({"message": "already submitted"}, 409)
    return answer({"message": "Order received and persisted!"}, 201)


async def show(request: Request) -> Response:
    """The status, now or years after the order has ended."""
    return answer(await handle(request).view(Order.status))


async def pick_up(request: Request) -> Response:
    await handle(request).signal(Order.picked_up)
    return answer({"message": "picked up"}, 202)


async def deliver(request: Request) -> Response:
    await handle(request).signal(Order.delivered)
    return answer({"message": "delivered"}, 202)


async def open_orders(request: Request) -> Response:
    board = await read(client(request))
    return answer(board, 503 if board.problem else 200)


async def watch_orders(request: Request) -> Response:
    """Everything about the orders named in the address: `?id=…&id=…`. One stream, because a browser
    opens six at most."""
    ids = dict.fromkeys(request.query_params.getlist("id"))
    return stream(attempts(set(ids)), *(changes(client(request), order_id) for order_id in ids))


async def watch_board(request: Request) -> Response:
    return stream(boards(request.app.state.watch))


async def changes(client: Client, id: str) -> AsyncIterator[Event]:
    order = client.get(id, Order.process)
    try:
        async for status in order.watch(Order.status):
            yield "status", {"id": id, "status": status}
        yield "ended", {"id": id}
    except WorkflowNotFound:
        yield "unknown", {"id": id}


async def attempts(ids: set[str]) -> AsyncIterator[Event]:
    async for attempt in feed.watch():
        if attempt.order_id in ids:
            yield "attempt", attempt


async def boards(watch: Watch) -> AsyncIterator[Event]:
    async for board in watch.boards():
        yield "board", board


class NewOrder(msgspec.Struct):
    id: UUID
    product: Annotated[str, msgspec.Meta(max_length=100)]


def client(request: Request) -> Client:
    connected: Client = request.app.state.client
    return connected


def handle(request: Request) -> Handle[Order, None]:
    return client(request).get(request.path_params["id"], Order.process)


def answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def refuse(request: Request, error: Exception) -> Response:
    """An error is an answer too: a sentence that the page can show, or a page for a person who came
    by a wrong address."""
    match error:
        case HTTPException(status_code=404) if "text/html" in request.headers.get("accept", ""):
            return FileResponse(PAGES / "lost.html", 404)
        case HTTPException(status_code=404):
            places = "/ is the menu, /driver the drivers' board, /orders the open orders"
            return answer({"message": f"There is nothing at {request.url.path}: {places}."}, 404)
        case HTTPException():
            return answer({"message": error.detail}, error.status_code)
        case RequestRefused():
            return answer({"message": str(error)}, 400)
        case msgspec.DecodeError():
            return answer({"message": f"This is not an order: {error}"}, 400)
        case WorkflowNotFound():
            return answer({"message": str(error)}, 404)
        case _:
            return answer({"message": str(error)}, 503)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with Client.connect(os.environ.get("PERDURE_URL", "sqlite:///perdure.db")) as connected:
        app.state.client, app.state.watch = connected, Watch(connected)
        yield


async def page(request: Request) -> Response:
    name = "driver.html" if request.url.path == "/driver" else "menu.html"
    return FileResponse(PAGES / name, headers={"Cache-Control": "no-cache"})


web: Final = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/driver", page),
        Mount("/pages", StaticFiles(directory=PAGES)),
        Route("/menu", menu),
        Route("/orders", open_orders),
        Route("/orders", place, methods=["POST"]),
        Route("/orders/watch", watch_orders),
        Route("/orders/{id}", show),
        Route("/orders/{id}/picked-up", pick_up, methods=["POST"]),
        Route("/orders/{id}/delivered", deliver, methods=["POST"]),
        Route("/board/watch", watch_board),
    ],
    exception_handlers=dict.fromkeys(
        (HTTPException, msgspec.DecodeError, ClientError, InfrastructureError), refuse
    ),
)
