"""What every refusal has in common: a typed error, with a text that helps; and nothing that was refused is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from brokerkit.errors import BrokerkitError
from brokerkit_conformance.bench import check

__all__ = ["refused"]

E = TypeVar("E", bound=BrokerkitError)


def refused(call: Callable[[], object], expected: type[E] | tuple[type[E], ...], what: str) -> E:
    """Fail unless a call raises one of the expected errors, with a text; return the error."""
    try:
        answer = call()
    except expected as error:
        check(str(error), f"{what}: the error has no text")
        return error
    except Exception as error:
        names = expected.__name__ if isinstance(expected, type) else " or ".join(e.__name__ for e in expected)
        raise AssertionError(f"{what} raised {type(error).__name__} ({error}) instead of {names}") from error
    raise AssertionError(f"{what} was not refused; it returned {answer!r}")
