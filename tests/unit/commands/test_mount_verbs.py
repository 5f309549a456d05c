"""What a mount does for the commands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.memory_stack import MemoryStack
from tests.lab.virtual_time import run_virtual
from vfs.commands import mount


@pytest.mark.parametrize("name", ["ls", "status"])
def test_a_command_beside_a_mount_hurries_its_attempt_to_reconnect(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def listing(stack: object) -> Mapping[str, bool]:
        return {"listed": True}

    monkeypatch.setattr(mount, "VERBS", {"ls": listing})

    async def main() -> None:
        memory = MemoryStack()
        settings = SimpleNamespace(log_file=None, via="fuse")
        stack: Any = SimpleNamespace(remote=memory.remote, settings=settings, status=dict)
        mounted: Any = SimpleNamespace(open_files=0, device="")
        verbs = mount._verbs(stack, Path("/m"), mounted)
        assert await verbs[name]({})
        assert memory.remote.hurries == 1
        await memory.aclose()

    run_virtual(main())
