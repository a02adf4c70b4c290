"""What every error is, and those that any command may meet."""

from __future__ import annotations

from typing import ClassVar


class MicrotomeError(Exception):
    """Root of the tree.

    Args:
        message: what is wrong, in one sentence that names the input; no trailing full stop.
        remedy: what the user can do about it, in one sentence; may be empty.
    """

    cause: ClassVar[str] = "error"
    """A stable slug for scripts: the ledger's `cause` column and `--json` errors hold it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class SettingError(MicrotomeError):
    """A setting is wrong; raised before any work starts."""

    cause = "setting"


class NotConfirmed(SettingError):
    """A command that can't be undone, or that undoes much, was not told to go ahead."""

    cause = "not-confirmed"


class SlideUnknown(SettingError):
    """The atlas holds no such slide, or no slide of such a case."""

    cause = "slide-unknown"


class ClusterFailed(MicrotomeError):
    """Ray can't go on: no worker could start, or the cluster is gone; running again goes on."""

    cause = "cluster"
