"""What `Files` says where a frontend asks for something that is not there, or no more."""

from __future__ import annotations

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.base.errors import AccessDenied, NoSuchPath, RootUnusable, StaleVersion, Unsupported
from vfs.remote.api import Attributes
from vfs.stack import real_root


def test_what_is_no_file_is_not_opened_and_has_no_attributes_of_a_file() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"bytes")
        await stack.tree.start()
        files = stack.service
        with pytest.raises(Unsupported):
            await files.open(files.root)
        file = await files.lookup(files.root, b"f")
        assert await files.xattr(file, b"user.artisync.state") == b"remote"
        for node, name in ((files.root, b"user.artisync.state"), (file, b"user.colour")):
            assert not files.has_xattr(node, name)
            with pytest.raises(NoSuchPath):
                await files.xattr(node, name)

    play(story)


def test_attributes_of_a_replaced_file_are_given_to_its_readers_only() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"the first")
        await stack.tree.start()
        files = stack.service
        node = await files.lookup(files.root, b"f")
        reader = await files.open(node)
        stack.tree.names.replace(node, Attributes(0o100644, 3, 7), 0.0)
        assert (await files.attributes(node)).size == 9
        reader.close()
        with pytest.raises(StaleVersion):
            files.attributes_now(node)
        with pytest.raises(StaleVersion):
            await files.attributes(node)

    play(story)


def test_a_root_that_cannot_be_shown_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"bytes")
        assert await real_root(stack.remote, ROOT) == ROOT
        with pytest.raises(RootUnusable, match="there is no /r/absent"):
            await real_root(stack.remote, ROOT + b"/absent")
        with pytest.raises(RootUnusable, match="is not a directory"):
            await real_root(stack.remote, ROOT + b"/f")

        async def denied(path: bytes) -> bytes:
            raise AccessDenied(f"{path!r}")

        monkeypatch.setattr(stack.remote, "realpath", denied)
        with pytest.raises(RootUnusable, match="may not be read"):
            await real_root(stack.remote, ROOT)

    play(story)
