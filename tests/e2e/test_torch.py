"""The real torch reads checkpoints over a mount."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.lab.mounted import needs_fuse, settle
from tests.lab.waiting import eventually

pytestmark = needs_fuse


@pytest.fixture(scope="module")
def torch() -> Any:
    """Not before a test of this module runs: each process that runs tests loads all modules."""
    return pytest.importorskip("torch", reason="no torch in this environment (pip install torch)")


@pytest.fixture
def checkpoint(torch: Any, experiment: Path) -> Path:
    """A checkpoint as trainings save it: weights, an optimizer's state, and plain values."""
    torch.manual_seed(7)
    model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(8)])
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 256)).sum().backward()
    optimizer.step()
    path = experiment / "checkpoints/best_model.pt"
    torch.save(
        {
            "epoch": 17,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "half": torch.arange(100_000).to(torch.bfloat16),
            "path": Path("data/train"),  # what weights_only=True would refuse
        },
        path,
    )
    settle(path)
    return path


def same(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mmap"])
def test_a_checkpoint_has_the_same_tensors_as_a_local_copy(
    torch: Any, checkpoint: Path, shown: Path, mapped: bool
) -> None:
    assert eventually((shown / "checkpoints/best_model.pt").exists)
    there = torch.load(shown / "checkpoints/best_model.pt", weights_only=False, mmap=mapped)
    here = torch.load(checkpoint, weights_only=False)
    assert same(there, here)
    assert there["epoch"] == 17


def test_a_checkpoint_that_was_replaced_is_loaded_anew(torch: Any, checkpoint: Path, shown: Path) -> None:
    path = shown / "checkpoints/best_model.pt"
    assert eventually(path.exists)
    old = torch.load(path, weights_only=False, mmap=True)
    assert old["epoch"] == 17
    torch.save({"epoch": 18, "weight": torch.ones(1000)}, checkpoint.with_name("tmp"))
    os.rename(checkpoint.with_name("tmp"), checkpoint)
    size = checkpoint.stat().st_size
    assert eventually(lambda: path.stat().st_size == size)  # torch looks at it by its name, twice
    assert torch.load(path, weights_only=False, mmap=True)["epoch"] == 18
    assert same(torch.load(path, weights_only=False)["weight"], torch.ones(1000))
