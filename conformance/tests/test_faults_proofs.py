"""Every fault proves its effect on a control connection, and a fault that has none is not taken for proved."""

from __future__ import annotations

import pytest
from brokerkit_conformance.faults import (
    Blackhole,
    Chunks,
    Cut,
    Ending,
    Garble,
    HalfOpen,
    HoldReply,
    KillConnections,
    Refuse,
    Slow,
    Way,
    biting,
    prove,
)
from brokerkit_conformance.faults.injections import Injection
from brokerkit_conformance.model import Inconclusive

FAULTS = [
    HoldReply(),
    HoldReply(containing=b"the id"),
    HoldReply(once=b"the id"),
    HoldReply(containing=b"reply", once=b"the id"),
    Cut(way=Way.UP),
    Cut(way=Way.UP, after=3, ending=Ending.FIN),
    Cut(way=Way.UP, once=b"the id", after=2),
    Cut(way=Way.DOWN),
    Cut(way=Way.DOWN, after=3, ending=Ending.FIN),
    Cut(way=Way.DOWN, once=b"the id"),
    Blackhole(way=Way.UP),
    Blackhole(way=Way.DOWN),
    Blackhole(way=Way.BOTH),
    Blackhole(way=Way.UP, once=b"the id"),
    Blackhole(way=Way.DOWN, once=b"the id"),
    Blackhole(way=Way.BOTH, new=False),
    HalfOpen(),
    HalfOpen(new=False),
    Slow(latency=0.03),
    Slow(latency=0.01, jitter=0.01, rate=10_000),
    Slow(rate=2000, burst=10, way=Way.DOWN),
    Garble(),
    Garble(containing=b"the id"),
    Garble(once=b"the id"),
    Refuse(),
    Chunks(),
    Chunks(size=7, way=Way.DOWN),
    KillConnections(),
    KillConnections(ending=Ending.FIN),
]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_every_fault_proves_its_effect(fault) -> None:
    proof = prove(fault)
    assert proof.proved, proof
    assert proof.effect is not None
    assert proof.effect.bit
    proof.demand()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not isinstance(fault, Chunks)], ids=repr)
def test_a_fault_that_does_nothing_is_not_proved(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerkit_conformance.faults.loop.HANG", 0.3)
    monkeypatch.setattr("brokerkit_conformance.faults.echo.HANG", 0.3)
    monkeypatch.setattr(Injection.wait, "__kwdefaults__", {"times": 1, "size": 0, "within": 0.3})

    class Nothing(Injection):
        """Pretends to bite."""

        async def carry(self, stream, piece, forward) -> None:
            self._bite(stream.link, len(piece.body))
            await forward(piece)

    monkeypatch.setitem(biting._KINDS, type(fault), Nothing)
    proof = prove(fault)
    assert not proof.proved
    with pytest.raises(Inconclusive, match="cannot be made here"):
        proof.demand()


def test_an_effect_that_only_the_client_saw_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(biting._KINDS[Garble]):
        def _bite(self, link, size=0) -> None:
            """Takes nothing down."""

    monkeypatch.setitem(biting._KINDS, Garble, Silent)
    proof = prove(Garble())
    assert not proof.proved
    assert "the proxy noticed nothing" in proof.text
