"""Context values go with a start to its run, activities, steps, children and the next run."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure import activity, context, testing, workflow
from perdure.context import encoded
from perdure.errors import PayloadError, UsageError
from perdure.model import commands as cm
from perdure.model.limits import CONTEXT_BYTES
from perdure.model.validation import fault_of
from perdure.registry import Registry
from perdure.triggers.binding import Bindings, Source
from perdure.triggers.decoding import BadRecord


@activity.defn(name="context_in_an_activity")
async def in_activity() -> Any:
    return context.get("tenant")


@activity.defn(name="context_in_a_thread")
def in_thread() -> Any:
    return context.get("tenant")


@activity.step(name="context_in_a_step")
def in_step() -> Any:
    return context.get("tenant")


def inline() -> Any:
    return context.get("tenant")


@workflow.defn(name="context_child")
async def child() -> Any:
    return context.get("tenant")


@workflow.defn(name="ContextOrder")
class Order:
    def __init__(self) -> None:
        self.seen: list[Any] = [context.get("tenant")]

    @workflow.run
    async def process(self, is_new: bool = True) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.look())
        self.seen += [await each() for each in (in_activity, in_thread, in_step)]
        self.seen.append(await workflow.step("inline", inline))
        self.seen.append(await workflow.execute(f"child of {workflow.info().workflow_id}", child))
        await workflow.wait_until(lambda: len(self.seen) >= 8)
        if is_new:
            workflow.continue_as_new(self.process, False)
        return self.seen

    async def look(self) -> None:
        self.seen.append(context.get("tenant"))

    @workflow.signal
    def note(self) -> None:
        self.seen.append(context.get("tenant"))

    @workflow.query
    def asked(self) -> Any:
        return dict(context.current())


@workflow.defn(name="context_setter")
async def setter() -> None:
    with context.use(tenant="other"):
        await in_activity()


@workflow.defn(name="context_triggered")
class Triggered:
    @workflow.trigger("orders", dict, id=lambda value: str(value["id"]))
    @workflow.run
    async def process(self, value: dict[str, Any]) -> Any:
        return context.get("tenant")


REGISTRY = Registry.of([Order, child, setter, Triggered], [in_activity, in_thread, in_step])


async def _everywhere(restarts: bool) -> None:
    async with testing.Environment(REGISTRY) as env:
        with context.use(tenant="acme"), context.use(locale="it"):
            order = await env.client.start("order-1", Order.process)
        for _ in range(2):
            await env.settle()
            if restarts:
                await env.restart()
            assert await order.query(Order.asked) == {"tenant": "acme", "locale": "it"}
            with context.use(tenant="of a signal"):  # it has a context of its own, the run keeps its
                await order.signal(Order.note)
            await env.settle()
        assert await order.result() == ["acme"] * 8
        assert await env.client.execute("order-2", child) is None


@pytest.mark.parametrize("restarts", [False, True])
def test_code_activities_steps_children_and_what_continues_the_run_have_its_context(restarts: bool) -> None:
    asyncio.run(_everywhere(restarts))


def test_an_environment_that_is_made_within_a_context_does_not_give_it_to_runs() -> None:
    async def main() -> None:
        with context.use(tenant="of the test"):
            async with testing.Environment(REGISTRY) as env:
                pass_on = env.client
                token = context._values.set({})
                try:
                    handle = await pass_on.start("order-1", Order.process, False)
                finally:
                    context._values.reset(token)
                await env.settle()
                assert await handle.query(Order.asked) == {}
                await handle.signal(Order.note)
                assert set(await handle.result()) == {None}

    asyncio.run(main())


@dataclasses.dataclass
class Tenant:
    name: str


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Tenant("acme"),
        datetime(2030, 1, 1, tzinfo=UTC),
        (1, 2),
        {1: 2},
        {1},
        b"x",
        float("nan"),
        "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_json_form_is_refused_before_anything_is_recorded(value: Any) -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY) as env:
            with pytest.raises(PayloadError, match="the context value 'tenant'"), context.use(tenant=value):
                await env.client.start("order-1", Order.process)
            assert await env.client.list() == []

    asyncio.run(main())


@pytest.mark.parametrize("value", ["é", 0, -1.5, True, None, [], {"a": [1, {"b": None}]}])
def test_what_json_has_comes_as_it_is(value: Any) -> None:
    with context.use(it=value):
        assert context.get("it") == value
        assert context.decoded(context.here()) == {"it": value}
    assert context.get("it", "nothing") == "nothing"
    assert context.here() == b""


def test_the_size_has_a_limit() -> None:
    with pytest.raises(PayloadError, match=f"the limit is {CONTEXT_BYTES}"):
        encoded({"x": "y" * CONTEXT_BYTES})


def test_values_are_read_only() -> None:
    with context.use(tenant="acme"), pytest.raises(TypeError):
        context.current()["tenant"] = "other"  # type: ignore[index]


def test_workflow_code_cannot_set_them() -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY) as env:
            handle = await env.client.start("order-1", setter)
            with pytest.raises(UsageError, match="the context of a run is that of its start"):
                await handle.result()

    asyncio.run(main())


@pytest.mark.parametrize("data", [b"[1]", b"{", b'"x"', b'{"x": "' + b"y" * CONTEXT_BYTES + b'"}'])
def test_a_start_of_another_program_is_checked(data: bytes) -> None:
    fault = fault_of(cm.StartWorkflow("w", type="t", context=data))
    assert fault is not None
    assert fault.message.startswith("the context values")


def test_a_record_brings_its_context_in_a_header() -> None:
    bindings = Bindings(REGISTRY, testing.Environment(REGISTRY)._activities.payloads)

    def of(*headers: tuple[str, bytes | None]) -> Any:
        (command,) = bindings.commands_of(Source("orders", 0, 1, None, b'{"id": 1}', headers))
        return command

    assert of((context.HEADER, b'{"tenant": "acme"}')).context == b'{"tenant": "acme"}'
    assert of((context.HEADER, None), ("other", b"x")).context == b""
    with pytest.raises(BadRecord, match="the context values are not JSON"):
        of((context.HEADER, b"{"))
