"""The networked engine of the suite: it passes every case that makes faults of the connection, and its own wire is honest."""

from __future__ import annotations

import pickle
import socket
import time

import pytest
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import How, Outcome
from brokerkit_conformance.mutants import wire
from brokerkit_conformance.mutants.served import NetworkedHarness
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.trial import Trial

from brokerkit.errors import ConnectionLost, NotConnected, OperationTimeout

FAULTS = [law for law in catalogue() if law.since and "network" in law.needs]


def test_the_networked_engine_passes_every_fault_of_the_connection():
    trial = Trial(NetworkedHarness(), cases=[law.id for law in FAULTS])
    try:
        trial.run()
    finally:
        trial.close()
    assert len(trial.evidence) == len(FAULTS) >= 23
    assert [(e.id, e.reason) for e in trial.evidence if e.outcome not in (Outcome.PASS, Outcome.REFUSED_OK)] == []


def test_an_embedded_engine_has_no_connection_to_make_faults_of():
    trial = Trial(MemoryHarness(), cases=[law.id for law in FAULTS])
    trial.close()
    hows = {e.id: e.how for e in trial.expectations if catalogue()[e.id] in FAULTS}
    assert {law for law, how in hows.items() if how is not How.IMPOSSIBLE} == {"FLT-14", "FLT-19"}
    assert {hows["FLT-14"], hows["FLT-19"]} == {How.REFUSAL}  # asked for all the same, by a URL or an option


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("garbage was unpickled",)


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


def frame(content, number=1):
    one, other = socket.socketpair()
    with one, other:
        wire.write_frame(one, number, content)
        return other.recv(1 << 16)


def test_a_frame_comes_back_as_it_went(ends):
    wire.write_frame(ends[0], 7, {"body": b"\x00\xff" * 100})
    assert wire.read_frame(ends[1], 7, time.monotonic() + 5) == {"body": b"\x00\xff" * 100}


@pytest.mark.parametrize("at", [0, 5, 9, 17, 20, -1])
def test_no_flipped_byte_gets_as_far_as_pickle(ends, at):
    spoilt = bytearray(frame(Bomb()))
    spoilt[at] ^= 0x40
    ends[0].sendall(spoilt)
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises((wire.Garbage, EOFError)):
        wire.read_frame(ends[1], 1, time.monotonic() + 5)
    with pytest.raises(pytest.fail.Exception):
        pickle.loads(pickle.dumps(Bomb()))


def test_an_answer_to_another_question_is_garbage(ends):
    ends[0].sendall(frame("old news", 1))
    with pytest.raises(wire.Garbage, match="frame 1 came instead of 2"):
        wire.read_frame(ends[1], 2, time.monotonic() + 5)


def test_a_frame_that_ends_in_the_middle_is_told(ends):
    ends[0].sendall(frame("whole")[:-1])
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError, match="peer closed"):
        wire.read_frame(ends[1], 1, time.monotonic() + 5)


def test_a_server_that_is_silent_is_lost_or_out_of_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lines = wire.Lines([silent.getsockname()], "hello")
        with pytest.raises(NotConnected):  # nothing of ours was sent
            lines.call("order", 0.2)
        line = wire.Line.__new__(wire.Line)
        line._number, line._socket = 0, socket.create_connection(silent.getsockname())
        with pytest.raises(OperationTimeout):
            line.ask("order", 0.1, 5.0)
        line._socket = socket.create_connection(silent.getsockname())
        with pytest.raises(ConnectionLost, match="timed out"):
            line.ask("order", 5.0, 0.1)
        lines.close()
