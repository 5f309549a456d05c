"""Names that a shell can complete: experiments and paths on the server, and profiles. Nothing here asks the network."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from vfs import config
from vfs.errors import ArtisyncError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Known(click.types.StringParamType):
    """A text of which the beginning can be completed. Taken as it is."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.known(ctx, incomplete) if name.startswith(incomplete)]

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        """Names of which one may be meant."""
        raise NotImplementedError


class RemotePath(_Known):
    """`EXPERIMENT/…`, completed from the last known tree in the cache.

    `local` ("file" or "dir"): a path on this machine may be meant too.
    """

    name = "path"

    def __init__(self, *, local: str | None = None) -> None:
        self._local = local

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        items = super().shell_complete(ctx, param, incomplete)
        return [*items, CompletionItem(incomplete, type=self._local)] if self._local else items

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        """What is in the directory that was typed so far."""
        above, slash, _ = incomplete.rpartition("/")
        return [f"{above}{slash}{name}" for name in _last_known(ctx, above)]


class Experiment(RemotePath):
    """The name of an experiment."""

    name = "experiment"

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        return [name.removesuffix("/") for name in _last_known(ctx, "") if name.endswith("/")]


class ProfileName(_Known):
    """The name of a saved server."""

    name = "name"

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        return config.profile_names()


def _last_known(ctx: click.Context, directory: str) -> list[str]:
    """What the cache knows to be in a directory below the root, a slash behind directories; empty if nothing."""
    from vfs.cache.peek import peek
    from vfs.cli.options import BASE, weigh
    from vfs.records import listing_key, load_listing

    try:
        settings = config.resolve(weigh(ctx, {name: ctx.params.get(name) for name in BASE}))
    except ArtisyncError:
        return []
    listing = peek(settings.cache_dir, listing_key(settings.identity, os.fsencode(directory.strip("/"))))
    return sorted(
        os.fsdecode(entry.name) + ("/" if stat.S_ISDIR(entry.attributes.mode) else "")
        for entry in load_listing(listing) or ()
        if os.fsdecode(entry.name).isprintable()
    )
