"""The contract of the command line with programs: `--json`, errors as documents, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer
import typer.main

from perdure import cli, errors
from perdure.cli.app import app
from perdure.cli.commands import workflow
from perdure.cli.contract import asks_for_json, error_document, kind_of
from perdure.cli.tree import UntilStopped

RUNNING = {"dev", "engine", "worker", "api", "projector", "ingest", "mirror"}


def ended(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[Any, str, str]:
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as end:
        cli.main(line)
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def leaves(command: Any) -> Iterator[Any]:
    """All commands below one."""
    for each in command.commands.values():
        if hasattr(each, "commands"):
            yield from leaves(each)
        else:
            yield each


def test_each_command_that_ends_takes_json_and_no_other_does() -> None:
    for command in leaves(typer.main.get_command(app)):
        takes = any("--json" in each.opts for each in command.params)
        assert takes is not isinstance(command, UntilStopped), command.name
        assert takes is not (command.name in RUNNING), command.name


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        (["workflow", "list", "--json"], True),
        (["workflow", "list", "-o", "json"], True),
        (["workflow", "list", "--output=json"], True),
        (["workflow", "list", "-o", "table"], False),
        (["workflow", "start", "a", "T", "--", "--json"], False),
        ([], False),
    ],
)
def test_a_line_asks_for_json_even_if_it_is_wrong_otherwise(line: list[str], asks: bool) -> None:
    assert asks_for_json(line) is asks


@pytest.mark.parametrize(
    ("error", "kind", "may_succeed_later"),
    [
        (errors.WorkflowNotFound("no"), "workflow-not-found", False),
        (errors.WorkflowAlreadyStarted("no"), "already-started", False),
        (errors.NotClosed("no"), "not-closed", True),
        (errors.EngineUnavailable("no"), "engine-unavailable", True),
        (errors.ReadLags("no"), "read-lags", True),
        (errors.CommitAborted("no"), "unavailable", True),
        (errors.PayloadError("no"), "invalid-request", False),
        (errors.TokenClosed("no"), "token-closed", False),
        (KeyError("no"), "internal", False),
    ],
)
def test_each_error_has_a_kind_and_says_whether_to_repeat(
    error: Exception, kind: str, may_succeed_later: bool
) -> None:
    found = error_document(kind_of(error), "what to do", error)["error"]

    assert found["kind"] == kind
    assert found["message"] == "what to do"
    assert found["may_succeed_later"] is may_succeed_later
    assert isinstance(found["next"], list)


def test_the_next_steps_of_an_error_are_commands_that_exist() -> None:
    root = typer.main.get_command(app)
    for kind in ("usage", "already-started", "workflow-failed", "not-allowed", "not-closed", "token-closed"):
        for step in error_document(kind, "")["error"]["next"]:
            at: Any = root
            words: Sequence[str] = step.split()
            for word in words[1:] if words[0] == "perdure" else ():
                if word.isupper() or not hasattr(at, "commands"):
                    break
                assert word in at.commands, step
                at = at.commands[word]


def test_a_failed_workflow_has_its_exception_in_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise errors.WorkflowFailed("workflow 'a' failed", ValueError("no stock"))

    monkeypatch.setattr(workflow, "ask_of", fail)

    code, out, err = ended(capsys, "workflow", "result", "a", "--json")

    found = json.loads(out)["error"]
    assert (code, found["kind"]) == (1, "workflow-failed")
    assert (found["failure"]["type"], found["failure"]["message"]) == ("ValueError", "no stock")
    assert "perdure: workflow 'a' failed" in err


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        (["workflow", "show", "a", "--db", "missing.db", "--json"], 1, "unavailable"),
        (["workflow", "list", "--limit", "x", "--json"], 2, "usage"),
        (["workflow", "shw", "--json"], 2, "usage"),
        (["nothing", "-o", "json"], 2, "usage"),
        (["check", "missing.py", "--json"], 1, "invalid-request"),
        (["init", "a b", "--json"], 1, "invalid-request"),
        (["api-keys", "revoke", "x", "--keys", "missing.toml", "--json"], 1, "invalid-request"),
    ],
)
def test_an_error_is_one_document_and_one_line_for_people(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    line: list[str],
    code: int,
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    ended_with, out, err = ended(capsys, *line)

    assert (ended_with, json.loads(out)["error"]["kind"]) == (code, kind)
    assert json.loads(out)["error"]["message"] in " ".join(err.split())


def test_without_json_an_error_is_only_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "workflow", "show", "a", "--db", "/nowhere/missing.db")

    assert (code, out) == (1, "")
    assert err.startswith("perdure: no database")


@pytest.mark.parametrize(
    ("line", "document"),
    [
        (["signal", "a", "approve", "1", "--json"], {"workflow_id": "a", "signal": "approve"}),
        (["cancel", "a", "--json"], {"workflow_id": "a", "requested": "cancel"}),
        (["terminate", "a", "--json"], {"workflow_id": "a", "requested": "terminate"}),
    ],
)
def test_what_was_done_is_a_document(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: list[str],
    document: dict[str, str],
) -> None:
    def done(*_: object) -> None: ...

    monkeypatch.setattr(workflow, "ask_of", done)

    code, out, _ = ended(capsys, "workflow", *line)

    assert (code, json.loads(out)) == (0, document)


def test_a_new_project_is_a_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    code, out, _ = ended(capsys, "init", "shop", "--json")

    found = json.loads(out)
    assert (code, found["directory"], "app.py" in found["files"]) == (0, "shop", True)


def test_a_question_that_is_not_answered_with_yes_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise typer.Abort

    monkeypatch.setattr(workflow, "ask_of", refuse)

    code, out, err = ended(capsys, "workflow", "pause", "a", "--json")

    assert (code, json.loads(out)["error"]["kind"]) == (1, "usage")
    assert err == "perdure: not confirmed: nothing was done\n"
