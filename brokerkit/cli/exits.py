"""Exit codes that scripts can use; those above 63 are the ones of sysexits.h."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from brokerkit import errors

__all__ = [
    "CONFIGURATION",
    "DATA",
    "DENIED",
    "INTERNAL",
    "INTERRUPTED",
    "NO",
    "OK",
    "TABLE",
    "TEMPORARY",
    "TERMINATED",
    "UNAVAILABLE",
    "USAGE",
    "code_of",
]

OK: Final = 0
NO: Final = 1
USAGE: Final = 2
DATA: Final = 65
UNAVAILABLE: Final = 69
INTERNAL: Final = 70
TEMPORARY: Final = 75
DENIED: Final = 77
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130
TERMINATED: Final = 143

TABLE: Final = (
    (OK, "done"),
    (NO, "the answer is no: nothing was received, a plugin is broken, something was lost, a target was missed"),
    (USAGE, "wrong arguments"),
    (DATA, "the payload or a message option is not acceptable"),
    (UNAVAILABLE, "a plugin, queue or server is not there, or its storage is broken"),
    (INTERNAL, "a defect of brokerkit or of a plugin"),
    (TEMPORARY, "a temporary failure: the same command may succeed later"),
    (DENIED, "access denied"),
    (CONFIGURATION, "the URL or an option is wrong, or the engine lacks the power asked for"),
)

# The first class that fits decides; what is retryable is looked at between the two parts.
_BEFORE: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.PluginNotInstalled, UNAVAILABLE),
    (errors.PluginBroken, UNAVAILABLE),
    (errors.InvalidMessage, DATA),
    (errors.InvalidName, USAGE),
    (errors.ConfigurationError, CONFIGURATION),
    (errors.SerializationError, DATA),
    (errors.MessageTooLarge, DATA),
    (errors.ResultTooLarge, DATA),
    (errors.AccessDenied, DENIED),
)
_AFTER: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.ResultTimeout, TEMPORARY),
    (errors.LeaseLost, TEMPORARY),
    (errors.TransportError, UNAVAILABLE),
    (errors.ResultError, UNAVAILABLE),
    (KeyboardInterrupt, INTERRUPTED),
)


def code_of(error: BaseException) -> int:
    """Return the exit code for an error. Of a group, that of the first which will not pass by itself."""
    if isinstance(error, errors.SendFailed):
        codes = [code_of(one) for one in _leaves(error)]
        return next((code for code in codes if code != TEMPORARY), TEMPORARY)
    for kind, code in _BEFORE:
        if isinstance(error, kind):
            return code
    if isinstance(error, errors.BrokerkitError) and error.retryable:
        return TEMPORARY
    return next((code for kind, code in _AFTER if isinstance(error, kind)), INTERNAL)


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
