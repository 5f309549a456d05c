"""`artisync tensorboard`: several experiments side by side, with no mount needed beforehand."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from vfs.base import reexec
from vfs.base.errors import ArtisyncError, FuseMissing, NfsMissing, NoSuchExperiment
from vfs.base.settings import Settings, resolve
from vfs.cli import background, console, remote_names
from vfs.cli.options import BASE, Command, Number, command_line, given_options
from vfs.frontends import mountpoint as mountpoints

COPY_SECONDS = 60.0
"""How long the first copy may take to begin, where nothing can be mounted."""


@click.command(name="tensorboard", cls=Command)
@given_options(*BASE, "cache_size", "transport", "accept_new_host_key")
@click.argument("experiments", nargs=-1, shell_complete=remote_names.paths(experiments=True))
@click.option(
    "--port", type=Number(1, 65535), metavar="PORT", help="Port  [default: 6006 or the next free one]"
)
@click.option("--open", "open_browser", is_flag=True, help="Open the browser.")
@click.pass_context
def command(
    ctx: click.Context,
    given: dict[str, Any],
    experiments: tuple[str, ...],
    port: int | None,
    open_browser: bool,
) -> int:
    """Run TensorBoard over experiments.

    Shows EXPERIMENTS, or all of them, each as its own run, and follows training live. Uses a live mount if there is one;
    otherwise mounts for as long as TensorBoard runs. Ctrl-C stops both.
    """
    from vfs.commands import tensorboard

    settings = resolve(given)
    tensorboard.program()  # before anything is mounted
    port = tensorboard.choose_port(port)
    words = [word for word in command_line(ctx) if not word.startswith(("--port", "--open"))]
    directory = Path(tempfile.mkdtemp(prefix="artisync-tensorboard-"))
    try:
        with (
            background.signals_interrupt(),
            _root(settings, words, experiments, directory / "mount") as root,
        ):
            (directory / "runs").mkdir()
            runs = tensorboard.Runs(directory / "runs", root, experiments)
            for name in runs.update():
                console.tell(f"{name} has no tensorboard directory yet; it is shown once it has one.")
            with tensorboard.running(runs, port) as process:
                click.echo(f"http://localhost:{port}/")
                console.tell("Ctrl-C stops it.")
                if open_browser:
                    webbrowser.open(f"http://localhost:{port}/")
                tensorboard.serve(runs, process)
    except KeyboardInterrupt:
        return 0
    finally:
        # however deep the server's directories are
        subprocess.run(["rm", "-rf", "--", directory], stderr=subprocess.DEVNULL, check=False)
    return 0


@contextmanager
def _root(settings: Settings, words: list[str], names: Sequence[str], place: Path) -> Iterator[Path]:
    """Where the experiments are: in a live mount, in one made at `place`, or in a copy that is kept up to date."""
    from vfs.commands import mount
    from vfs.control import register

    live = register.mount_of(settings)
    if live is not None:
        yield live.mountpoint
        return
    try:
        mount.check(settings)
    except (FuseMissing, NfsMissing) as error:
        console.tell(f"artisync: {error}. TensorBoard will read a copy that is kept up to date.")
        with _copy(words, names, place) as root:
            yield root
        return
    if background.start(["mount", "--foreground", *words, "--", str(place)]) != 0:
        raise click.exceptions.Exit(1)
    try:
        yield place
    finally:
        try:
            mountpoints.unmount(place, force=True)
        except ArtisyncError as error:
            console.tell_error(error)


@contextmanager
def _copy(words: list[str], names: Sequence[str], place: Path) -> Iterator[Path]:
    what = ["--", *names] if names else ["--all", "--"]
    pulling = background.popen(["pull", *words, "--only=tensorboard", "--watch", *what, str(place)])
    try:
        end = time.monotonic() + COPY_SECONDS
        while not place.is_dir() or not any(place.iterdir()):
            if pulling.poll() is not None:
                raise click.exceptions.Exit(1)  # it has printed the reason
            if time.monotonic() > end:
                raise NoSuchExperiment("no experiment has a tensorboard directory")
            time.sleep(0.1)
        yield place
    finally:
        reexec.end(pulling, 5, signal.SIGINT)
