"""The state machine of `tests.lab.machine` on a real mount of a real sshd's tree."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse
from tests.lab.on_a_mount import OnAMount, run_machine
from tests.lab.sshd import Sshd

pytestmark = needs_fuse

EXAMPLES = int(os.environ.get("ARTISYNC_EXAMPLES", "4"))
"""More by hand: ARTISYNC_EXAMPLES=500, or ./scripts/soak."""


NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mounted, Sshd]]:
    place: Path = tmp_path_factory.mktemp("machine")
    with Sshd(place / "artifacts") as sshd:
        mounted = Mounted(sshd, place / "artifacts", place, "--ttl", "500ms", "--transport", "openssh")
        with mounted:
            yield mounted, sshd


@pytest.mark.timeout(EXAMPLES * 120)
def test_whatever_happens_nothing_is_mixed_or_stale_or_absent_without_cause(
    place: tuple[Mounted, Sshd],
) -> None:
    run_machine(lambda: OnAMount(*place, f"example-{next(NUMBERS)}"), EXAMPLES, 12)
