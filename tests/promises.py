"""The tests that docs/SEMANTICS.md and docs/RELIABILITY.md name: each promise stands on some."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("docs/SEMANTICS.md", "docs/RELIABILITY.md")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def promised(document: str) -> list[tuple[str, str]]:
    """File and function of each test that a document names, in order."""
    return _TEST.findall((ROOT / document).read_text())


@functools.cache
def defined(file: str) -> set[str]:
    """The test functions of a file."""
    path = ROOT / file
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
