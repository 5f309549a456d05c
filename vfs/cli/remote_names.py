"""Names on the server that a shell can complete: experiments and paths, as the cache last knew them, without the network."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from vfs.base.errors import ArtisyncError
from vfs.base.settings import resolve
from vfs.cli.names import Completable
from vfs.cli.options import BASE, weigh

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class RemotePath(Completable):
    """`EXPERIMENT/…`, completed from the last known tree in the cache.

    `local` ("file" or "dir"): a path on this machine may be meant too; `begun`: only where it begins as one (`./`).
    """

    name = "path"

    def __init__(self, *, local: str | None = None, begun: bool = False) -> None:
        self._local = local
        self._begun = begun

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        items = super().shell_complete(ctx, param, incomplete)
        if self._local is None or (self._begun and not incomplete.startswith((".", "/", "~"))):
            return items
        return [*items, CompletionItem(incomplete, type=self._local)]

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        """The names in the directory typed so far."""
        above, slash, _ = incomplete.rpartition("/")
        return [f"{above}{slash}{name}" for name in _last_known(ctx, above)]


class Experiment(RemotePath):
    """The name of an experiment, or a path in one."""

    name = "experiment"

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        if "/" in incomplete:
            return super().known(ctx, incomplete)
        return [name.removesuffix("/") for name in _last_known(ctx, "") if name.endswith("/")]


def _last_known(ctx: click.Context, directory: str) -> list[str]:
    """The names in a directory below the root, as far as the cache has them; directories end with a slash."""
    from vfs.cache.records import peek
    from vfs.files.records import listing_key, load_listing

    try:
        settings = resolve(weigh(ctx, {name: ctx.params.get(name) for name in BASE}))
    except ArtisyncError:
        return []
    listing = peek(settings.cache_dir, listing_key(settings.identity, os.fsencode(directory.strip("/"))))
    return sorted(
        os.fsdecode(entry.name) + ("/" if stat.S_ISDIR(entry.attributes.mode) else "")
        for entry in load_listing(listing) or ()
    )
