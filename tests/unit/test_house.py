"""Rules about the project's layout that the tools cannot check."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import language

HOUSE = Path(__file__).parents[2]
ROOTS = ("platform", "workers", "api", "schemas")
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
MACHINE_PATH = re.compile(
    r"(?<![\w.~/:-])/(?:work|home|root|Users)/\w|(?:https?://)(?:[\w-]+\.)+(?:internal|local|corp)\b"
)


def _ours() -> list[Path]:
    """Every file that git tracks, or would if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE,
        capture_output=True,
        check=True,
    )
    files = [HOUSE / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


OURS = _ours()
SOURCES = [file for file in OURS if file.suffix == ".py"]
SHIPPED = [file for file in SOURCES if file.relative_to(HOUSE).parts[0] in ROOTS]


@functools.cache
def _text(file: Path) -> str:
    return file.read_text()


@functools.cache
def _places() -> list[language.Place]:
    return list(language.places(language.product()))


def test_the_lists_are_not_empty() -> None:
    assert len(SHIPPED) > 15
    assert Path(__file__) in SOURCES


@pytest.mark.parametrize("root", ROOTS)
def test_source_roots_and_their_perdure_folders_are_not_packages(root: str) -> None:
    stray = [
        file
        for file in (HOUSE / root / "__init__.py", HOUSE / root / "perdure" / "__init__.py")
        if file.exists()
    ]
    assert not stray, f"{stray}: perdure is one namespace over several roots (PEP 420); delete it"


def test_python_keeps_its_own_platform() -> None:
    out = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.python_implementation())"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "CPython"


def test_no_top_level_module_is_named_after_the_standard_library() -> None:
    folders = [HOUSE / root for root in ROOTS] + [
        folder for folder in (HOUSE / "examples").glob("*") if folder.is_dir()
    ]
    names = [
        entry
        for folder in folders
        if folder.is_dir()
        for entry in folder.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    ]
    assert not [entry for entry in names if entry.stem in sys.stdlib_module_names]


def test_no_get_of_a_simple_queue_has_a_timeout() -> None:
    """It may wait for ever (`perdure.adapters.process.channel`): where there is a SimpleQueue,
    `get` has no timeout."""
    found = [
        f"{file.relative_to(HOUSE)}:{node.lineno}"
        for file in SHIPPED
        if "SimpleQueue" in _text(file)
        for node in language.nodes_of(file)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        if len(node.args) > 1 or any(keyword.arg == "timeout" for keyword in node.keywords)
    ]
    assert not found


LARGE_CLASSES = {
    "platform/perdure/client/client.py: Client",  # the author's facade: one documented method per request
    "platform/perdure/client/handle.py: Handle",  # the same
    "platform/perdure/client/sync.py: SyncClient",  # the same, method by method
    "platform/perdure/client/sync.py: SyncHandle",  # the same, method by method
    "platform/perdure/replay/runtime.py: RunRuntime",  # implements the port of workflow code
    "platform/perdure/interceptor.py: Outbound",  # passes on each member of a port, and is nothing else
}


def test_no_class_is_oversized() -> None:
    """Classes are measured, not files: a limit on files only breaks small pieces off large
    classes."""
    found: list[str] = []
    for file in SHIPPED:
        for node in language.nodes_of(file):
            if not isinstance(node, ast.ClassDef):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
            name = f"{file.relative_to(HOUSE)}: {node.name}"
            if (lines > 250 or methods > 20) and name not in LARGE_CLASSES:
                found.append(f"{name} has {lines} lines and {methods} methods")
    assert not found


def test_constructors_take_at_most_six_arguments_by_position() -> None:
    """A reader cannot distinguish more of them at the call; the rest is named."""
    limit = 6
    found: list[str] = []
    for file in SHIPPED:
        for node in language.nodes_of(file):
            if isinstance(node, ast.ClassDef):
                made = [
                    each
                    for each in node.body
                    if isinstance(each, ast.FunctionDef) and each.name == "__init__"
                ]
                if any(len(each.args.posonlyargs + each.args.args) - 1 > limit for each in made):
                    found.append(f"{file.relative_to(HOUSE)}:{node.lineno}: {node.name}")
            elif isinstance(node, ast.Call) and len(node.args) > limit:
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called[:1].isupper() and called != "LogRecord":  # of the standard library
                    found.append(f"{file.relative_to(HOUSE)}:{node.lineno}: {called}(…)")
    assert not found


def test_names_say_what_a_module_is_for() -> None:
    assert not [
        file
        for file in SOURCES
        if FORBIDDEN & {part.removesuffix(".py") for part in file.relative_to(HOUSE).parts}
    ]


def test_no_document_or_source_holds_a_machine_path_or_host() -> None:
    texts = [
        file
        for file in OURS
        if file.suffix in {".md", ".py", ".toml", ".txt", ".html", ".js", ".css", ".json"}
        or file.name in {"Makefile", "run"}
    ]
    found = [
        f"{file.relative_to(HOUSE)}:{number}: {line.strip()[:100]}"
        for file in texts
        if file != Path(__file__) and MACHINE_PATH.search(_text(file))
        for number, line in enumerate(_text(file).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


def test_every_package_and_module_has_a_docstring() -> None:
    silent = [file for file in SHIPPED if "templates" not in file.parts and not _is_documented(file)]
    assert not silent


def _is_documented(file: Path) -> bool:
    module = language.nodes_of(file)[0]
    assert isinstance(module, ast.Module)
    return ast.get_docstring(module) is not None


def test_every_folder_of_modules_is_a_package() -> None:
    namespaces = {HOUSE / root / "perdure" for root in ROOTS}
    folders = {file.parent for file in SHIPPED if "templates" not in file.parts} - namespaces
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_versions_are_pinned_without_hosts_or_paths() -> None:
    """A pin has a version and hashes, so that pip refuses a file that somebody exchanged; where it
    comes from is the machine's matter."""
    name, marker = r"[\w.-]+==[\w.]+", r"( ; [\w.'\"!=<>() ]+)?"
    pin = re.compile(
        rf"{name}{marker} \\\n(    --hash=sha256:[0-9a-f]{{64}}( \\)?\n)+(    # via [\w., ()-]+\n)?"
    )
    text = (HOUSE / "constraints.txt").read_text()
    pins = re.split(r"(?<=\n)(?=\w)", text)
    assert len(pins) > 50
    assert not [each for each in pins if not pin.fullmatch(each)]


def test_a_decision_is_dated_and_short() -> None:
    entries = re.split(r"^## ", (HOUSE / "docs" / "decisions.md").read_text(), flags=re.MULTILINE)[1:]
    assert entries
    assert not [
        entry.splitlines()[0]
        for entry in entries
        if not re.match(r"\d{4}-\d\d-\d\d \S", entry) or len(entry.strip().splitlines()) > 15
    ]


def test_every_package_says_that_it_is_typed() -> None:
    """pyright looks for `py.typed` beside a subpackage, since the namespace package above has
    none."""
    packages = {file.parent for file in SHIPPED if "perdure" in file.parts and "templates" not in file.parts}
    assert packages
    assert not [
        str(package.relative_to(HOUSE)) for package in packages if not (package / "py.typed").exists()
    ]


def test_docstrings_use_plain_words() -> None:
    """`tests/language.py` has the words, each with a plainer one; STYLE.md has the rules."""
    assert language.counted(language.product())["docstring_words"]
    places = [*_places(), *language.gone(language.product())]
    assert not [f"{place.file}:{place.line}: {place.phrase}" for place in places if place.is_docstring]


def test_messages_use_plain_words() -> None:
    assert not [f"{place.file}:{place.line}: {place.phrase}" for place in _places() if not place.is_docstring]


def test_documents_use_plain_words() -> None:
    """STYLE.md quotes the words, the changelog and the decisions are records of their time."""
    records = {"STYLE.md", "CHANGELOG.md", "docs/decisions.md"}
    documents = [
        file for file in OURS if file.suffix == ".md" and str(file.relative_to(HOUSE)) not in records
    ]
    assert documents
    assert not [f"{place.file}:{place.line}: {place.phrase}" for place in language.places(documents)]


def test_every_cited_document_is_in_the_repository() -> None:
    """By its path from the root or from the citing file, or by its name alone."""
    citation = re.compile(r"(?<![\w./:-])[\w.-]+(?:/[\w.-]+)*\.md\b")
    documents = {str(file.relative_to(HOUSE)) for file in OURS if file.suffix == ".md"}
    names = {Path(document).name for document in documents}
    missing = [
        f"{file.relative_to(HOUSE)}: {cited}"
        for file in OURS
        if file.suffix in {".py", ".md", ".toml"} or file.name == "Makefile"
        for cited in citation.findall(re.sub(r"https?://\S+", "", _text(file)))
        if not (file.parent / cited).is_file()
        and cited not in documents
        and not ("/" not in cited and cited in names)
    ]
    assert not missing
