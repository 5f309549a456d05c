"""Names on the server that a shell completes: experiments and paths, as the cache last knew them, without the network."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from vfs.base.errors import ArtisyncError
from vfs.base.settings import resolve
from vfs.cli.names import beginning
from vfs.cli.options import BASE, weigh

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def paths(
    *, experiments: bool = False, local: str | None = None, begun: bool = False
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes paths. `experiments`: the first word is the name of one, with nothing after it.

    `local` ("file" or "dir"): a path on this machine may be meant, too; `begun`: only where it begins as one (`./`).
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        above, slash, _ = incomplete.rpartition("/")
        names = [f"{above}{slash}{name}" for name in _last_known(ctx, above)]
        if experiments and not slash:
            names = [name.removesuffix("/") for name in names if name.endswith("/")]
        items = beginning(names, incomplete)
        if local is not None and (not begun or incomplete.startswith((".", "/", "~"))):
            items.append(CompletionItem(incomplete, type=local))
        return items

    return complete


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
