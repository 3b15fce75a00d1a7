"""One Idempotency-Key is for one request: repeated it acts once, with another content it is
refused, elsewhere it is another key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from perdure.api.auth.principal import EVERY_NAMESPACE, Principal
from perdure.api.roles import Role
from perdure.embedded import Platform
from perdure.errors import RequestRefused
from perdure.registry import Registry
from tests.api.served import Caller, Parcel, run, weigh

KEY = {"Idempotency-Key": "order-77"}


def parcel(id: str = "p-1", *args: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Parcel", "id": id, "args": list(args) or ["box"], **more}


async def _signals(api: Caller, id: str = "p-1") -> list[str]:
    events = (await api.get(f"/workflows/{id}/history"))["events"]
    return [event["name"] for event in events if event["type"] == "SignalReceived"]


def test_a_start_is_repeated_and_another_one_with_its_key_is_refused() -> None:
    async def test(api: Caller) -> None:
        first = await api.post("/workflows", parcel(), 201, headers=KEY)
        again = await api.post("/workflows", parcel(), 200, headers=KEY)
        assert (first["run_id"], again["is_new"]) == (again["run_id"], False)
        for other in (
            parcel("p-1", "crate"),
            parcel(options={"timeout": "1h"}),
            parcel(options={"attributes": {"a": 1}}),
            parcel(options={"if_running": "attach"}, signal={"name": "move", "args": ["x"]}),
        ):
            wanted = 200 if "signal" in other else 422  # a start without a signal has none to compare with
            answer = await api.http.post("/workflows", json=other, headers=KEY)
            assert answer.status_code == wanted, answer.text
        assert await _signals(api) == []

    run(test)


def test_a_signal_with_the_key_of_a_start_is_sent() -> None:
    async def test(api: Caller) -> None:
        await api.post("/workflows", parcel(), 201, headers=KEY)
        told = [
            await api.post("/workflows/p-1/signals/move", {"args": ["van"]}, 202, headers=KEY)
            for _ in range(2)
        ]
        assert [each["is_new"] for each in told] == [True, False]
        problem = await api.post("/workflows/p-1/signals/move", {"args": ["elsewhere"]}, 422, headers=KEY)
        assert "another signal" in problem["detail"]
        assert (await api.post("/workflows/p-1/signals/deliver", None, 422, headers=KEY))["detail"]
        assert await _signals(api) == ["move"]
        cancelled = await api.post("/workflows/p-1/cancel", {"reason": "late"}, 202, headers=KEY)
        assert cancelled["is_new"], "each operation has keys of its own"

    run(test)


def test_the_same_key_used_concurrently_acts_once() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        asked = [
            api.http.post("/workflows/p-1/signals/move", json={"args": [place]}, headers=KEY)
            for place in ["van", "home"]
            for _ in range(10)
        ]
        answers = await asyncio.gather(*asked)
        assert sorted({answer.status_code for answer in answers}) == [202, 422]
        assert sum(answer.status_code == 202 and answer.json()["is_new"] for answer in answers) == 1
        assert await _signals(api) == ["move"]

    run(test)


def test_a_key_is_known_after_a_restart(tmp_path: Path) -> None:
    registry = Registry.of([Parcel], [weigh])

    def start(parcel: str) -> str:
        with Platform(registry, f"sqlite:///{tmp_path}/app.db") as platform:

            async def main() -> str:
                client = platform.client().options(request_id="r-1", if_running="attach")
                return (await client.start("p-1", Parcel.carry, parcel)).run_id

            return asyncio.run(main())

    first = start("box")
    assert start("box") == first
    with pytest.raises(RequestRefused, match="another start"):
        start("crate")
    assert start("box") == first


class Two:
    """Admits who is named in a header."""

    async def admit(self, headers: Mapping[str, str], role: Role) -> Principal:
        return Principal(headers.get("x-who", "one"), Role.ADMIN, (EVERY_NAMESPACE,))


def test_two_callers_may_choose_one_key() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        for who, place in (("one", "van"), ("two", "van"), ("two", "van")):
            await api.post(
                "/workflows/p-1/signals/move", {"args": [place]}, 202, headers={**KEY, "x-who": who}
            )
        assert await _signals(api) == ["move", "move"]

    run(test, security=Two())


@pytest.mark.parametrize(
    "trace", ["x" * 60_000, "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-4bf92f3577b34da6a3ce929d0e0e4736"]
)
def test_an_invalid_traceparent_is_not_recorded(trace: str) -> None:
    async def test(api: Caller) -> None:
        await api.post("/workflows", parcel("p-1"), 201, headers={"traceparent": trace})
        good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        await api.post("/workflows", parcel("p-2"), 201, headers={"traceparent": good})
        first, second = [
            (await api.get(f"/workflows/{name}/history"))["events"][0] for name in ("p-1", "p-2")
        ]
        assert trace not in str(first)
        assert good in str(second)

    run(test)


def test_a_path_with_a_slash_too_many_is_not_redirected_anywhere() -> None:
    async def test(api: Caller) -> None:
        for path in ("/workflows/", "/workflows/p-1/", "/health/live/"):
            answer = await api.http.get(path, headers={"Host": "localhost"}, follow_redirects=False)
            assert answer.status_code == 404, path
            assert "location" not in answer.headers

    run(test)
