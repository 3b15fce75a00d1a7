"""No line of a log shows a local variable, an argument or a credential, and every line has the
chosen format."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.api.auth.key_file import create_key
from perdure.api.roles import Role
from perdure.embedded import Platform
from perdure.registry import Registry
from tests.api.served import Parcel, weigh
from tests.security.doors import Knocker

SECRET = "sk-live-4711-9d1f"
"""The scripts put it together at run time: the lines of source that a traceback shows do not have
it."""

KINDS = """
import asyncio, gc, logging, sys, threading, warnings
import structlog
from perdure.observability.logs import configure

configure(is_json=sys.argv[1] == "json")
log = logging.getLogger("app")
secret = "-".join(("sk", "live", "4711", "9d1f"))


def fail(key, marker):
    card = {"number": key, "headers": [(b"authorization", b"Bearer " + key.encode())]}
    raise ValueError(marker)


def caught(marker, write):
    try:
        fail(secret, marker)
    except ValueError:
        write()


caught("of-the-standard-logger", lambda: log.exception("failed"))
caught("with-stack", lambda: log.error("failed", exc_info=True, stack_info=True))
caught("of-structlog", lambda: structlog.stdlib.get_logger("app").exception("failed"))
asgi = logging.getLogger("uvicorn.error")
caught("of-a-library", lambda: asgi.error("Exception in ASGI application\\n", exc_info=True))


def nested():
    try:
        fail(secret, "of-the-cause")
    except ValueError as error:
        raise RuntimeError("of-the-effect") from error


try:
    nested()
except RuntimeError:
    log.exception("failed")


def grouped():
    held = secret
    raise ExceptionGroup("of-a-group", [ValueError("of-a-member")])


try:
    grouped()
except ExceptionGroup:
    log.exception("failed")


async def forgotten(key):
    fail(key, "of-a-forgotten-task")


async def loops():
    loop = asyncio.get_running_loop()
    loop.call_soon(fail, secret, "of-a-callback")
    task = loop.create_task(forgotten(secret))
    await asyncio.sleep(0)
    await asyncio.wait([task])
    del task
    gc.collect()
    loop.call_exception_handler({"message": "of-the-loop",
            "handle": loop.call_later(9, fail, secret, "never")})
    await asyncio.sleep(0)


asyncio.run(loops())


class Dying:
    def __del__(self):
        fail(secret, "of-a-finalizer")


Dying()
gc.collect()
thread = threading.Thread(target=fail, args=(secret, "of-a-thread"))
thread.start()
thread.join()
warnings.warn("of-a-warning", stacklevel=1)
log.info("of-a-wrong-argument %d", secret)
log.info("of-a-plain-line", extra={"order": object()})
fail(secret, "of-the-main-thread")
"""

MARKERS = (
    "of-the-standard-logger", "with-stack", "of-structlog", "of-a-library", "of-the-cause", "of-the-effect",
    "of-a-group", "of-a-member", "of-a-callback", "of-a-forgotten-task", "of-the-loop", "of-a-finalizer",
    "of-a-thread", "of-a-warning", "TypeError", "of-a-plain-line", "of-the-main-thread",
)  # fmt: skip

AUTHORS = """
import asyncio, logging, sys
from perdure import activity, workflow
from perdure.embedded import Platform
from perdure.observability.logs import configure
from perdure.registry import Registry

log = logging.getLogger("app")
secret = "-".join(("sk", "live", "4711", "9d1f"))


def charge(card):
    raise ValueError("declined")


@activity.defn
async def pay(card: str) -> None:
    try:
        charge(card)
    except ValueError:
        log.exception("of-an-activity")


@activity.step
def note(card: str) -> None:
    try:
        charge(card)
    except ValueError:
        log.exception("of-a-step")


@workflow.defn
class Order:
    @workflow.run
    async def process(self, card: str) -> None:
        await pay(card)
        await note(card)
        try:
            charge(card)
        except ValueError:
            workflow.logger.exception("of-a-workflow")


configure(is_json=sys.argv[1] == "json")
with Platform(Registry.of([Order], [pay, note]), "memory://") as platform:
    client = platform.client()

    async def main():
        order = await client.start("order-1", Order.process, secret)
        await order.result()

    asyncio.run(main())
"""


def _stderr_of(script: str, log_format: str, tmp_path: Path) -> tuple[int, str]:
    file = tmp_path / "app.py"
    file.write_text(script)
    ended = subprocess.run(
        [sys.executable, str(file), log_format],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    return ended.returncode, ended.stderr


def _check_format(stderr: str, log_format: str) -> None:
    if log_format == "json":
        for line in stderr.splitlines():
            assert isinstance(json.loads(line), dict), line
    else:
        assert "Traceback (most recent call last)" in stderr


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_kind_of_exception_shows_a_value(log_format: str, tmp_path: Path) -> None:
    code, stderr = _stderr_of(KINDS, log_format, tmp_path)
    assert code == 1, "the last exception is not caught"
    assert [marker for marker in MARKERS if marker not in stderr] == []
    assert SECRET not in stderr
    assert "authorization" not in stderr
    _check_format(stderr, log_format)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_authors_log_shows_the_exception_and_no_value(log_format: str, tmp_path: Path) -> None:
    code, stderr = _stderr_of(AUTHORS, log_format, tmp_path)
    assert code == 0, stderr
    for marker in ("of-an-activity", "of-a-step", "of-a-workflow", "declined", "order-1"):
        assert marker in stderr
    assert SECRET not in stderr
    _check_format(stderr, log_format)


def test_the_command_line_renders_no_local_variables() -> None:
    from perdure.cli.app import app

    assert not app.pretty_exceptions_enable
    assert not app.pretty_exceptions_show_locals


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_client_that_goes_away_leaves_no_error_and_no_key_in_the_log(
    log_format: str, tmp_path: Path
) -> None:
    key, _ = create_key(tmp_path / "keys.toml", "one", Role.OPERATOR, ["dev"])
    with Platform(Registry.of([Parcel], [weigh]), f"sqlite:///{tmp_path}/app.db"):
        pass  # makes the file
    command = [
        "api",
        "--db",
        f"sqlite:///{tmp_path}/app.db",
        "--port",
        "0",
        "--keys",
        str(tmp_path / "keys.toml"),
    ]
    api = subprocess.Popen(
        [sys.executable, "-m", "perdure.cli", *command, "--log-format", log_format],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert api.stdout
        port = int(api.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        head = f"Host: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        for _ in range(5):
            with Knocker(
                port, f"POST /api/v1/workflows HTTP/1.1\r\n{head}Content-Length: 99\r\n\r\n{{".encode()
            ):
                pass
        with Knocker(port, f"GET /api/v1/audit HTTP/1.1\r\n{head}\r\n".encode()) as knocker:
            assert knocker.answer().startswith(b"HTTP/1.1 403"), (
                "the others were handled before, or are while it stops"
            )
        api.send_signal(signal.SIGTERM)
        _, log = api.communicate(timeout=30)
    finally:
        api.kill()
        api.wait()
    assert "client-went-away" in log, "the audit trail has them"
    assert key not in log
    assert "Traceback" not in log
    assert "stopping" in log
    for line in log.splitlines() if log_format == "json" else ():
        assert isinstance(json.loads(line), dict), line
