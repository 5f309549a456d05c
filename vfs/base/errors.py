"""What can fail, and what to tell a person.

Each class's docstring is the sentence for people: the likely cause, and the command to type next. An instance's text
says what exactly failed. Which errno an error becomes for programs is decided in `errnos.py` only.
"""

from __future__ import annotations

import inspect


class ArtisyncError(Exception):
    """Something went wrong; run it again with `-v` for details."""

    lines = False
    """Whether a line break in the text is one; else it belongs to a name."""

    @property
    def hint(self) -> str:
        """The likely cause and the next step, for people."""
        return inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")


# --- what the server answers ------------------------------------------------------------------------------------


class RemoteError(ArtisyncError):
    """The server refused the request, with the words above."""


class NoSuchPath(RemoteError):
    """Check the name; `artisync ls` lists what is on the server."""


class EndlessSymlink(NoSuchPath):
    """Symbolic links on the server form a loop; `ls -l` there shows where each one points."""


class AccessDenied(RemoteError):
    """The server does not let this user read it; check its permissions, or log in as another user."""


class NotDirectory(RemoteError):
    """The path is not a directory on the server."""


class NotAFile(RemoteError):
    """What was a file is something else on the server now; look at it again."""


class NameTooLong(RemoteError):
    """The path or a name in it is too long for the server; mount a directory closer to it with `--remote-root`."""


class Unsupported(RemoteError):
    """The server does not support this operation."""


class ServerFailure(RemoteError):
    """The server failed (SSH_FX_FAILURE); it may be out of file handles, or its disk may be failing."""


class ListingTooLong(RemoteError):
    """Too many files in one directory on the server; they can still be opened by name."""


class NoSuchExperiment(ArtisyncError):
    """`artisync ls` lists the experiments. A sync takes minutes to appear; `artisync wait EXPERIMENT` waits for it."""


class AmbiguousExperiment(ArtisyncError):
    """Type more of the name, or a pattern in quotes."""


# --- the link -----------------------------------------------------------------------------------------------------


class LinkError(ArtisyncError):
    """The connection to the server is not working."""


class LinkLost(LinkError):
    """The connection broke during a request; artisync reconnects automatically."""


class ProtocolViolation(LinkLost):
    """The server sent something that is not SFTP; does a shell start-up file print text there?"""

    known = True
    """Whether it is known to have been the answer to the request that this is raised for."""


class Unreachable(LinkError):
    """The host does not answer. Is the container running, and is the VPN up? Run `artisync doctor`. For a new container,
    pass the panel's new line to `artisync connect`."""


# --- versions -----------------------------------------------------------------------------------------------------


class StaleVersion(ArtisyncError):
    """The file was replaced on the server; open it again to read the new version."""


class BeingWritten(StaleVersion):
    """The file is still being written on the server; try again later."""


# --- connecting ---------------------------------------------------------------------------------------------------


class ConnectError(LinkError):
    """Could not connect; `artisync doctor` shows at which step it fails."""


class UnknownHost(ConnectError):
    """Cannot resolve the host name; check its spelling, and that the VPN is up."""


class Refused(ConnectError):
    """Nothing listens on that port. Is the container running? A new container has a new port: pass the panel's new line
    to `artisync connect`."""


class NoAnswer(ConnectError):
    """The host does not answer. Is the VPN up (`wg show`), and is the container running?"""


class HungUp(ConnectError):
    """The host closed the connection. Is the container starting or stopping? If this persists, the server may have too
    many connections (MaxStartups), or bar this address for a while (PerSourcePenalties)."""


class NoThread(ConnectError):
    """Cannot start more threads on this machine; end some programs, or raise the limit (`ulimit -u`, a container's pids
    limit)."""

    @staticmethod
    def caused(error: BaseException) -> bool:
        """Whether that is what `threading.Thread.start` raises then."""
        return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


class NeedsOpenssh(ConnectError):
    """The system's `ssh` can do it: install it (Debian: openssh-client), or choose it with `--transport openssh`."""


class AuthRejected(ConnectError):
    """Add your public key in the control panel (`ssh-keygen -t ed25519` makes one), name the right key with `-i`, or check
    the user name."""


class HostKeyUnknown(ConnectError):
    """The server is new here. Compare the fingerprint with the server's, and confirm it when `artisync connect` asks on a
    terminal, or pass `--accept-new-host-key`."""


class HostKeyChanged(ConnectError):
    """The server's host key has changed. If this is a new container at the same address, run `artisync connect
    --replace-host-key "ssh …"`; otherwise somebody may be listening in."""


class NobodyToAsk(HostKeyChanged):
    """Run it on a terminal, which asks about the new fingerprint."""


class HostKeyRevoked(ConnectError):
    """This host key is marked as revoked in a known_hosts file; ask the server's administrator."""


class NoSftp(ConnectError):
    """The login works, but SFTP does not. The container needs an SFTP server (`apt install openssh-sftp-server`) and
    `Subsystem sftp internal-sftp` in its sshd_config; no shell start-up file there may print text."""


class KeyFileUnusable(ConnectError):
    """Fix the key file, or name another one with `-i`."""


class PassphraseNeeded(ConnectError):
    """Load the key into the agent with `ssh-add`, or run the command on a terminal, which asks for the passphrase."""


class RootUnusable(ConnectError):
    """Click "sync" in the control panel and wait some minutes, or name another directory with `--remote-root`."""


# --- on this machine ----------------------------------------------------------------------------------------------


class UsageError(ArtisyncError):
    """See `--help`."""

    @property
    def hint(self) -> str:
        """None: the text says what is not understood."""
        return ""


class ConfigError(ArtisyncError):
    """`artisync connect "ssh …"` saves a new one."""


class NoServerYet(ConfigError):
    """Copy the ssh line from the control panel: `artisync connect "ssh -p PORT USER@HOST"`"""


class ProfileInUse(ConfigError):
    """Unmount it first, with `artisync unmount`."""


class MountError(ArtisyncError):
    """Run it again with `-v` for details."""


class FuseMissing(MountError):
    """On Debian and Ubuntu: `sudo apt install fuse3 libfuse3-3`. Without FUSE, `artisync pull` copies the files."""


class NfsMissing(MountError):
    """Without NFS, mount by FUSE (`--via fuse`); without either, `artisync pull` copies the files."""


class MountPointUnusable(MountError):
    """Choose an empty directory that you own."""


class MountPointTaken(MountPointUnusable):
    """Unmount it first (`artisync unmount`), or choose an empty directory that you own."""


class WaitedTooLong(ArtisyncError):
    """A sync takes minutes to appear; was it started in the control panel? `artisync ls` lists what is there."""


class NeverQuiet(WaitedTooLong):
    """Is the training or the sync still running? Try a shorter `--settle`, or a longer `--timeout`."""


class TensorBoardMissing(ArtisyncError):
    """Install it: `pip install tensorboard`, or `pipx install tensorboard`."""


class TensorBoardFailed(ArtisyncError):
    """TensorBoard exited, with the words above."""

    lines = True


class PortInUse(ArtisyncError):
    """Another program (an older TensorBoard?) uses it; without `--port`, a free one is chosen."""


class PortForbidden(ArtisyncError):
    """Ports below 1024 need root; without `--port`, a free one is chosen."""


class DestinationUnusable(ArtisyncError):
    """Name a local directory that is writable and has room for the files."""


class ChangedHere(ArtisyncError):
    """It was changed here, and is kept; `--overwrite` replaces it."""


class InTheWay(ArtisyncError):
    """Move it away and pull again."""


class OutputUnusable(ArtisyncError):
    """Free some space there, or redirect the output to another file."""


class NoPlace(ArtisyncError):
    """Set HOME to a directory that you own, as an absolute path."""


class TooManyFiles(ArtisyncError):
    """Raise the limit in this shell: `ulimit -n 1024`."""


class NoWorkingDirectory(ArtisyncError):
    """Change to another directory (`cd`), or use absolute paths."""


class StateUnusable(ArtisyncError):
    """Free some space, or set XDG_STATE_HOME (for a profile XDG_CONFIG_HOME) to a writable directory."""


class DestinationBusy(ArtisyncError):
    """Wait until it has finished; other experiments can be pulled into the same directory meanwhile."""


class UnreadableFormat(ArtisyncError):
    """`artisync inspect` reads PyTorch checkpoints, safetensors, NumPy, zip, Parquet, HDF5 and TensorBoard event files."""


class CacheUnusable(ArtisyncError):
    """Fix it, or name another directory with `--cache-dir`."""


class NoCache(CacheUnusable):
    """The first command that reads from the server creates it; `--cache-dir` names another one."""


class NotMounted(ArtisyncError):
    """`artisync status` lists the mounts."""


class MountBusy(MountError):
    """Programs use the mount (`fuser -vm` lists them). End them, leave its directories, or run `artisync unmount --force`."""


class MountSilent(ArtisyncError):
    """The mount's process does not answer; `artisync unmount --force` ends it."""


class CannotControl(ArtisyncError):
    """Check the directory's permissions, or set XDG_RUNTIME_DIR to a directory that you own."""
