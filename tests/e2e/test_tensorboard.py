"""The real TensorBoard over a mount, and its page in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.chromium import Chromium
from tests.lab.mounted import Mounted, needs_fuse
from tests.lab.tensorboard import TensorBoard
from tests.lab.waiting import eventually

pytestmark = needs_fuse

STARTS = 30.0
"""Seconds within which TensorBoard serves what there is, on a slow machine too."""
NEWS = 15.0
"""Seconds for what was appended: the mount's TTL and TensorBoard's own interval are 3 of them."""

CURVE = """
[...document.querySelectorAll('scalar-card')]
  .filter(card => card.innerText.includes('loss'))
  .flatMap(card => [...card.querySelectorAll('line-chart svg path')])
  .map(path => (path.getAttribute('d').match(/L/g) || []).length + 1)
  .reduce((a, b) => Math.max(a, b), 0)
"""
"""How many points the longest line has that is drawn on the card of `loss`."""


class Run:
    """A training that writes scalars with TensorBoard's own writer."""

    def __init__(self, experiment: Path) -> None:
        summary = pytest.importorskip("tensorboard.summary", reason="no TensorBoard in this environment")
        self._writer = summary.Writer(str(experiment / "tensorboard"))
        self.step = 0

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            self._writer.add_scalar("loss", 1 / self.step, self.step)
        self._writer.flush()

    def end(self) -> None:
        """Its writer has a thread."""
        self._writer.close()


@pytest.fixture
def run(experiment: Path) -> Iterator[Run]:
    run = Run(experiment)
    run.go_on(50)
    yield run
    run.end()


def test_scalars_are_served_and_new_ones_while_the_run_goes_on(run: Run, shown: Path, tmp_path: Path) -> None:
    with TensorBoard(shown / "tensorboard", tmp_path / "log") as board:
        assert eventually(lambda: board.steps("loss") == list(range(1, 51)), STARTS)
        for _ in range(2):
            run.go_on(10)
            assert eventually(lambda: board.steps("loss") == list(range(1, run.step + 1)), NEWS)


def test_a_run_that_begins_later_is_found(run: Run, mounted: Mounted, shown: Path, tmp_path: Path) -> None:
    with TensorBoard(shown, tmp_path / "log") as board:
        assert eventually(lambda: board.tags() == {"tensorboard": ["loss"]}, STARTS)
        later = Run(mounted.root / shown.name / "second")
        later.go_on(5)
        later.end()
        assert eventually(lambda: board.steps("loss", "second/tensorboard") == list(range(1, 6)), NEWS), (
            board.tags()
        )


def test_the_scalar_card_is_drawn_in_a_browser_and_grows(run: Run, shown: Path, tmp_path: Path) -> None:
    with Chromium() as page, TensorBoard(shown / "tensorboard", tmp_path / "log") as board:
        assert eventually(lambda: len(board.steps("loss")) == 50, STARTS)
        page.open(board.url + "#timeseries")
        assert eventually(lambda: page.evaluate(CURVE) == 50, STARTS)
        run.go_on(10)
        assert eventually(lambda: len(board.steps("loss")) == 60, NEWS)
        page.open(board.url + "?again#timeseries")
        assert eventually(lambda: page.evaluate(CURVE) == 60, STARTS)
