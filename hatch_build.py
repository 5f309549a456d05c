"""What a wheel holds besides the package: man pages and completions, made from the commands."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/artisync",
    "zsh": "share/zsh/site-functions/_artisync",
    "fish": "share/fish/vendor_completions.d/artisync.fish",
}


class Shared(BuildHookInterface[Any]):
    """Writes them into a directory that lives as long as the build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        try:
            from scripts.manpages import write
            from vfs.cli.completion import script
        finally:
            sys.path.remove(self.root)
        self._made = tempfile.TemporaryDirectory()
        place = Path(self._made.name)
        shared = {str(page): f"share/man/man1/{page.name}" for page in write(place)}
        for shell, target in COMPLETIONS.items():
            (place / shell).write_text(script(shell), encoding="utf-8")
            shared[str(place / shell)] = target
        build_data["shared_data"].update(shared)
