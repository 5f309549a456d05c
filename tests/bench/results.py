"""What was measured, as it is kept: pure data, statistics and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One thing that a case measures: the head of a column."""

    label: str
    unit: str


class Spread(NamedTuple):
    """What several rounds gave."""

    median: float
    least: float
    most: float
    rounds: int


def spread(values: Iterable[float]) -> Spread:
    """The median and the ends. Raises ValueError when there is no value."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return Spread(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


@dataclass(slots=True)
class Outcome:
    """What one peer did in one case: the values of all rounds by figure, and why there are no more of them."""

    peer: str
    values: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def add(self, values: Mapping[str, float]) -> None:
        """Take in one round."""
        for figure, value in values.items():
            self.values.setdefault(figure, []).append(value)


@dataclass(slots=True)
class CaseResult:
    """One case, and all that is needed to measure it again."""

    name: str
    title: str
    figures: dict[str, Figure]
    outcomes: list[Outcome]
    command: str
    date: str
    rounds: int
    machine: dict[str, str]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; median, least and most are written beside the values, for who only looks."""
        result = asdict(self)
        result["figures"] = {key: figure._asdict() for key, figure in self.figures.items()}
        for outcome in result["outcomes"]:
            outcome["spread"] = {
                key: spread(values)._asdict() for key, values in outcome["values"].items() if values
            }
        return result

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CaseResult:
        """The opposite of `to_json`. Raises KeyError and TypeError for what it did not write."""
        rest = {key: found[key] for key in cls.__slots__ if key not in ("figures", "outcomes")}
        return cls(
            figures={key: Figure(**figure) for key, figure in found["figures"].items()},
            outcomes=[Outcome(one["peer"], one["values"], one["note"]) for one in found["outcomes"]],
            **rest,
        )


def load(path: Path) -> dict[str, CaseResult]:
    """The cases in a file of results, by name; none where there is no file."""
    if not path.exists():
        return {}
    return {name: CaseResult.from_json(one) for name, one in json.loads(path.read_text())["cases"].items()}


def save(path: Path, cases: Mapping[str, CaseResult]) -> None:
    """Write all cases to a file."""
    content = {"cases": {name: case.to_json() for name, case in cases.items()}}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
