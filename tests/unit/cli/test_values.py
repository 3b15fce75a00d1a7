"""Values on the command line: what the shell completes, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure.cli.app import app
from perdure.cli.lifecycle.dev_api import HOST, DevApi
from perdure.client import Client
from perdure.errors import InfrastructureError, RequestRefused
from perdure.model.states import Status


def completed(typed: str) -> list[str]:
    shell = {
        "_PERDURE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"perdure {typed}",
        "COMP_CWORD": str(typed.count(" ") + 1),
    }
    return CliRunner().invoke(app, env=shell, prog_name="perdure").stdout.split()


def test_the_shell_completes_values() -> None:
    assert completed("workflow list --sort c") == ["closed_at"]
    assert completed("workflow list --order o") == ["oldest"]
    assert completed("workflow start --if-running a") == ["attach"]
    assert completed("workflow start --if-closed a") == ["after_failure"]
    assert completed("workflow list --status ") == [*Status]


@pytest.mark.parametrize(
    ("said", "is_advised"),
    [
        ("workflow 'Order': argument 'product_id' expected str, got int", True),
        ("signal 'tell': argument 'what' expected str, got null", True),
        ("workflow 'Order': argument 'cents' expected int, got str", False),
        ("workflow 'Order': argument 'lines' expected str, got array, at [0]", False),
    ],
)
def test_a_text_that_was_read_as_a_number_comes_with_how_to_quote_it(
    monkeypatch: pytest.MonkeyPatch, said: str, is_advised: bool
) -> None:
    class Refusing:
        async def __aenter__(self) -> None:
            raise RequestRefused(said)

        async def __aexit__(self, *_: object) -> None: ...

    def connect(*_: Any, **__: Any) -> Refusing:
        return Refusing()

    monkeypatch.setattr(Client, "connect", connect)
    done = CliRunner().invoke(app, ["workflow", "start", "order-1", "Order", "17"])
    advice = "; a text that looks like JSON needs two pairs of quotes: '\"17\"'"
    assert str(done.exception) == said + (advice if is_advised else "")


@pytest.mark.parametrize(
    "line",
    [
        "workflow start order-1 Order --delay",
        "workflow start order-1 Order --timeout",
        "workflow result order-1 --timeout",
        "job run charge --id charge-1 --timeout",
        "job submit charge --id charge-1 --delay",
        "api-keys create ci --namespace shop --expires",
    ],
)
def test_a_wrong_duration_is_refused_with_the_name_of_its_option(line: str, tmp_path: Path) -> None:
    if line.startswith("api-keys"):
        line = line.replace("--expires", f"--keys {tmp_path / 'keys.toml'} --expires")
    done = CliRunner().invoke(app, [*line.split(), "5"])
    assert str(done.exception).startswith(f"{line.split()[-1]}: cannot read the duration '5'")


def test_the_address_of_a_kafka_is_no_file_of_dev() -> None:
    done = CliRunner().invoke(app, ["dev", "app.py"], env={"PERDURE_URL": "kafka://broker:9092/shop"})
    assert done.exit_code == 2
    assert "is Kafka, not a file: give --kafka HOST:PORT --namespace NAME" in done.output


def test_a_port_of_the_api_that_is_taken_names_its_option() -> None:
    def make() -> Any:
        raise AssertionError("nobody asks")

    first = DevApi(make, 0)
    try:
        with pytest.raises(InfrastructureError, match=f"{HOST}:.* choose another with --api-port$"):
            DevApi(make, int(first.url.rpartition(":")[2]))
    finally:
        first.join()
