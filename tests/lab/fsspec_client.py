"""The options by which a test reads a server through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest

from tests.lab.client import Client
from vfs.frontends.fsspec import stacks

# As the entry point does where the package is installed.
fsspec.register_implementation("artisync", "vfs.frontends.fsspec.filesystem.ArtisyncFileSystem", clobber=True)


def storage_options(client: Client, **more: Any) -> dict[str, Any]:
    """For `fsspec.filesystem("artisync", …)`: what the commands of `client` get as options."""
    return {
        "ssh": client.address.line(),
        "remote_root": str(client.root),
        "cache_dir": str(client.cache),
        "accept_new_host_key": True,
        **more,
    }


@contextmanager
def home(client: Client) -> Iterator[None]:
    """This process has the home of `client` until the end of the block, and no stack left after it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in client.environment.items():
            if name.startswith("XDG_"):
                patch.setenv(name, value)
        stacks.close()
        fsspec.get_filesystem_class("artisync").clear_instance_cache()
        try:
            yield
        finally:
            stacks.close()
