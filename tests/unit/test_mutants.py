"""The catalogue of planted bugs stays usable: `make mutants` tries each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.catalogue import Mutant, load
from tests.mutants.run import Checkout, Trial
from tests.mutants.sample import mutants_of

MUTANTS = load()
FOLDERS = (
    "api/perdure/api",
    "deploy/helm",
    *(
        f"platform/perdure/{name}"
        for name in (
            "adapters/http",
            "adapters/kafka",
            "adapters/postgres",
            "adapters/rocksdb",
            "adapters/sqlite",
            "cli",
            "client",
            "codec",
            "core",
            "engine",
            "replay",
            "triggers",
        )
    ),
    "workers/perdure/worker",
)


@pytest.mark.parametrize("catalogue", sorted({mutant.catalogue for mutant in MUTANTS}))
def test_mutants_of_a_catalogue_apply(catalogue: str) -> None:
    listed = [mutant for mutant in MUTANTS if mutant.catalogue == catalogue]
    assert not [f"{mutant.id}: {fault}" for mutant in listed if (fault := mutant.fault())]


def test_ids_are_unique() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


def test_the_catalogue_is_large() -> None:
    assert len(MUTANTS) >= 150


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_mutants(folder: str) -> None:
    assert [mutant for mutant in MUTANTS if mutant.file.startswith(f"{folder}/")]


def test_few_mutants_are_listed_as_surviving() -> None:
    assert sum(bool(mutant.survives) for mutant in MUTANTS) <= 0.05 * len(MUTANTS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A project of one module and one test."""
    path = tmp_path_factory.mktemp("project")
    (path / "adding.py").write_text("def add(a, b):\n    return a + b\n")
    (path / "test_adding.py").write_text(
        "import sys; sys.path.insert(0, '.')\nfrom adding import add\n\ndef test_two(): assert add(2, 2) == "
        "4\n"
    )
    checkout = Checkout(path, preloads=False)
    yield checkout
    checkout.close()


@pytest.mark.parametrize(
    ("replace", "outcome"),
    [("a - b", "found"), ("a * b", "survived"), ("a +", "unusable")],
)
def test_outcome_of_a_mutant(checkout: Checkout, replace: str, outcome: str) -> None:
    trial = checkout.attempt(Mutant("m", "adding.py", "a + b", replace, ("test_adding.py",)))
    assert isinstance(trial, Trial)
    assert trial.outcome == outcome, (trial, sys.version)
    assert "a + b" in (checkout.path / "adding.py").read_text()


def test_sampling_makes_mutants_that_apply() -> None:
    file = Path(__file__).parents[2] / "platform/perdure/core/machines/timer.py"
    sampled = list(mutants_of(file, ("tests/unit/core",)))
    assert sampled
    assert not [fault for mutant in sampled if (fault := mutant.fault())]
