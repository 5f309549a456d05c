"""docs/TROUBLESHOOTING.md, made from vfs/base/errors.py and the places that raise: `python scripts/troubleshooting.py` prints it."""

from __future__ import annotations

import ast
import errno
import inspect
import re
from collections import defaultdict
from pathlib import Path

from vfs.base import errors
from vfs.base.errnos import errno_of

ROOT = Path(__file__).parents[1]
HEAD = """# Troubleshooting

Every message of artisync, with its likely cause, the next step, and the errno that a program gets inside a mount. `…` stands for a
name or a number. Made by `./scripts/docs` from `vfs/base/errors.py`; not to be changed by hand.

`artisync doctor` walks the whole chain from this machine to an experiment and says at which step it breaks.
"""
HERE = "on this machine"
"""The section of what commands say, and no program in a mount meets."""
SECTION = re.compile(r"^# --- (.+?) -+$", re.MULTILINE)


def template(node: ast.expr) -> str | None:
    """The text of a message, with `…` for what is put in; None if it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = template(node.left), template(node.right)
        return f"{left or '…'}{right or '…'}"
    return None


def messages() -> dict[str, list[str]]:
    """For each error class by name: the texts that it is raised with."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "vfs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                text = template(node.args[0])
                if isinstance(getattr(errors, name, None), type) and text and text.strip("…' "):
                    found[name].add(" ".join(text.split()))
    return {name: sorted(texts) for name, texts in found.items()}


def markdown() -> str:
    """The whole document."""
    source = inspect.getsource(errors)
    said = messages()
    parts = [HEAD]
    sections = [(match.start(), match[1]) for match in SECTION.finditer(source)]
    for number, (start, title) in enumerate(sections):
        end = sections[number + 1][0] if number + 1 < len(sections) else len(source)
        parts.append(f"\n## {title[0].upper()}{title[1:]}")
        for name in re.findall(r"^class (\w+)\(", source[start:end], re.MULTILINE):
            if texts := said.get(name):
                error: errors.ArtisyncError = getattr(errors, name)("")
                parts += ["", *(f"    {text}" for text in texts), ""]
                met = "" if title == HERE else f"In a mount: `{errno.errorcode[errno_of(error)]}`."
                parts.append(f"{error.hint} {met}".strip())
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
