"""The exceptions of the package, one tree."""

from __future__ import annotations


class LatentBriefingError(Exception):
    """Whatever this package raises of its own. What is known of the fault beside its text is an attribute."""

    def __init__(self, message: str = "", **fields: object) -> None:
        super().__init__(message)
        self.__dict__.update(fields)


class ConfigError(LatentBriefingError, ValueError):
    """An argument is out of range, unknown, or does not go with another one. `field` is its name."""

    field: str


class TensorError(LatentBriefingError, ValueError):
    """A tensor has the wrong shape, dtype or device, holds NaN or an infinity, or is empty."""


class ModelError(LatentBriefingError):
    """A checkpoint cannot be found, read or used, or the input does not fit the model."""


class SessionError(LatentBriefingError):
    """A session or a briefing cannot do what it is asked: no room, another task, a file of another model."""


class Cancelled(LatentBriefingError):
    """A call was called off from elsewhere than by a signal; what it worked on is as it was."""


class TimedOut(LatentBriefingError, TimeoutError):
    """A call took longer than it may; what it worked on is as it was."""


class RunStopped(LatentBriefingError):
    """A run of the loop ended without an answer. `partial` is what there was of one, `turns` how far it came."""

    partial: str | None = None
    turns: str = "0"


class ServeError(LatentBriefingError):
    """A server cannot start."""
