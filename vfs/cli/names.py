"""Names that a shell can complete: experiments and paths on the server, and profiles. Nothing here asks the network."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import click

from vfs import config
from vfs.errors import ArtisyncError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class RemotePath(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`EXPERIMENT/…`, completed from the last known tree in the cache. Taken as it is."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        above, slash, begin = incomplete.rpartition("/")
        names = [name for name in _last_known(ctx, above) if name.startswith(begin)]
        return [CompletionItem(f"{above}{slash}{name}") for name in names]


class Experiment(RemotePath):
    """The name of an experiment. `or_directory`: or a local directory, as among the words of `pull`."""

    name = "experiment"

    def __init__(self, *, or_directory: bool = False) -> None:
        self._or_directory = or_directory

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name.removesuffix("/") for name in _last_known(ctx, "") if name.endswith("/")]
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*items, CompletionItem(incomplete, type="dir")] if self._or_directory else items


class ProfileName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The name of a saved server. Taken as it is."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in config.profile_names() if name.startswith(incomplete)]


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
