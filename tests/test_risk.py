"""What connecting says about servers that may drop what they store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest

import brokerkit
from brokerkit import _risk
from brokerkit.abc import SupportsEvictionCheck
from brokerkit.errors import EvictionRisk, TransportError, Unsupported
from brokerkit.memory import MemoryTransport


class AskedTransport(MemoryTransport, SupportsEvictionCheck):
    """The memory transport with a server that can be asked."""

    answer: Sequence[str] | Exception = ()
    closed = 0

    def evictable(self, *, timeout: float) -> Sequence[str]:
        """Answer as the test says."""
        assert 0 < timeout <= 2
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self, *, timeout: float) -> None:
        """Count."""
        type(self).closed += 1
        super().close(timeout=timeout)


def asked(answer: Sequence[str] | Exception, *, declared: tuple[str, ...] = (), strict: bool = False) -> list[str]:
    """Return what is warned of."""
    with brokerkit.connect("memory://asked") as broker, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport = AskedTransport(
            broker.transport.server,  # type: ignore[attr-defined]
            "",
            broker.transport.options,  # type: ignore[attr-defined]
        )
        transport.answer, AskedTransport.closed = answer, 0
        _risk.check_eviction("product", declared, transport, broker.caller, strict=strict)
    assert {each.category for each in caught} <= {EvictionRisk}
    return [str(each.message) for each in caught]


def test_nothing_is_said_of_a_safe_server() -> None:
    assert asked(()) == asked((), strict=True) == []


def test_what_is_declared_and_what_the_server_says_is_one_warning() -> None:
    assert asked(("queues",), declared=("results",)) == ["product may drop by itself: results, queues"]


def test_strict_refuses_and_closes() -> None:
    with pytest.raises(Unsupported, match="strict=true: product may drop by itself: queues"):
        asked(("queues",), strict=True)
    assert AskedTransport.closed == 1


def test_a_server_that_does_not_answer_is_let_be_unless_strict() -> None:
    assert asked(RuntimeError("down")) == []
    with pytest.raises(TransportError, match="ask the server what it may drop: down"):
        asked(RuntimeError("down"), strict=True)
    assert AskedTransport.closed == 1


def test_capabilities_alone_are_told_where_nobody_can_be_asked() -> None:
    with (
        brokerkit.connect("memory://plain") as broker,
        pytest.warns(EvictionRisk, match="product may drop by itself: queues, records"),
    ):
        _risk.check_eviction("product", ("queues", "records"), broker.transport, broker.caller, strict=False)
