"""What a check found, and the very next step to take. Pure."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from vfs.base.errors import ArtisyncError, ConnectError

BY_HAND = "Run the panel's ssh line by hand, with `-v`: it shows more."


class Result(enum.StrEnum):
    """How a check ended. Only FAILED makes the examination fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    check: str
    """One of `examine.CHECKS`."""
    result: Result
    text: str
    """What was seen."""
    next: str = ""
    """What to do now; empty where there is nothing to do."""

    @classmethod
    def of_error(cls, check: str, error: ArtisyncError | TimeoutError, advice: str = "") -> Finding:
        """A failure, with what the error knows of its cause; `advice` goes before that."""
        if isinstance(error, TimeoutError):
            return cls(check, Result.FAILED, "no answer in time", advice)
        hint = BY_HAND if type(error) is ConnectError else error.hint  # whose own hint is to run doctor
        return cls(check, Result.FAILED, str(error) or hint, f"{advice} {hint}".strip())

    def as_json(self) -> dict[str, str | None]:
        """As `json.dumps` takes it."""
        return {**asdict(self), "next": self.next or None}
