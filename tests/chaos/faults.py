"""The faults of a chaos run, with their times: planned from the seed before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """A fault of a process."""

    KILL = "kill -9"
    STOP = "SIGTERM"
    FREEZE = "SIGSTOP"


class Who(StrEnum):
    """To what kind of process."""

    ENGINE = "engine"
    WORKER = "worker"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_s: since the beginning.
        kind: what.
        who: to whom.
        index: which of them, from 0.
        lasts_s: until it is started or continued again.
    """

    at_s: float
    kind: Kind
    who: Who
    index: int
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.who} {self.index + 1} for {self.lasts_s:.1f} s"


LONG_S: Final = 50.0
"""Longer than the engines' session timeout (6 s) and transaction timeout (45 s)."""
TOGETHER: Final = 0.7
"""How often an engine dies with a broker: what may split a transaction
(docs/internals/kafka.md)."""
_CHOICES: Final[tuple[tuple[Who, Kind, int], ...]] = (
    (Who.ENGINE, Kind.KILL, 5),
    (Who.ENGINE, Kind.STOP, 2),
    (Who.ENGINE, Kind.FREEZE, 3),
    (Who.WORKER, Kind.KILL, 3),
    (Who.WORKER, Kind.STOP, 1),
    (Who.WORKER, Kind.FREEZE, 2),
    (Who.BROKER, Kind.KILL, 3),
    (Who.BROKER, Kind.STOP, 1),
    (Who.BROKER, Kind.FREEZE, 2),
)


def plan_faults(seed: int, seconds: float, brokers: int) -> list[Fault]:
    """The plan of faults, in order.

    Args:
        seed: the same plan for the same seed.
        seconds: they all are over by then, but for what has to wait for a broker to be back.
        brokers: with fewer than three none is touched: a single one killed in mid-commit can hang
            for ever (docs/internals/kafka.md).
    """
    dice = random.Random(seed)
    choices = [each for each in _CHOICES if each[0] is not Who.BROKER or brokers >= 3]
    faults: list[Fault] = []
    if seconds >= LONG_S + 15:
        at_s = dice.uniform(5, seconds - LONG_S - 5)
        faults.append(Fault(at_s, Kind.FREEZE, Who.ENGINE, dice.randrange(2), LONG_S))
    at_s = dice.uniform(2, 5)
    while at_s < seconds - 3:
        ((who, kind, _),) = dice.choices(choices, [weight for _, _, weight in choices])
        index = dice.randrange(brokers if who is Who.BROKER else 2)
        faults.append(Fault(at_s, kind, who, index, _lasts_s(dice, who, kind)))
        if who is Who.BROKER and kind is Kind.KILL and dice.random() < TOGETHER:
            faults.append(
                Fault(at_s + dice.uniform(0, 0.05), kind, Who.ENGINE, dice.randrange(2), dice.uniform(0, 2))
            )
        at_s += dice.uniform(1, 7)
    return sorted(faults, key=lambda fault: fault.at_s)


def _lasts_s(dice: random.Random, who: Who, kind: Kind) -> float:
    if kind is Kind.STOP:
        return 0.0
    if kind is Kind.FREEZE:
        return dice.choice((dice.uniform(0.5, 4), dice.uniform(7, 14)))
    return (
        dice.choice((0.0, dice.uniform(0.2, 2), dice.uniform(2, 9)))
        if who is not Who.BROKER
        else dice.uniform(0.5, 4)
    )
