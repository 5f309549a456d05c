"""What the demo says."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

from vfs.commands.demo.run import what_to_try


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_line_that_loads_a_checkpoint_can_be_read_and_typed(here: Path) -> None:
    assert (
        'python3 -c \'import torch; print(torch.load("demo/exp-1/checkpoints/best_model.pt")["epoch"])\''
        in what_to_try(here / "demo")
    )


@pytest.mark.parametrize("name", ["it's", 'a "b"', "ü ☃ 😀", "back\\slash"])
def test_a_mount_point_of_any_name_comes_through_the_shell_and_python(here: Path, name: str) -> None:
    line = next(line for line in what_to_try(here / name).splitlines() if "python3" in line)
    *_, code = shlex.split(line)
    found = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert f"{name}/exp-1/checkpoints/best_model.pt" in found
