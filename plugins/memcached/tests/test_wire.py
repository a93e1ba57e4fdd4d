"""One connection, against servers that speak wrongly, slowly or not at all."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from brokerkit_memcached.errors import ERRORS, Crowded, Denied, Late, Silence, TimeUp, Unreachable, answer_of
from brokerkit_memcached.wire import Item, Wire
from pymemcache import exceptions

from brokerkit import errors
from brokerkit._clock import SYSTEM_CLOCK

HANG = 30.0


@contextmanager
def wired(*answers, longest=HANG):
    """A wire to a peer that sends these answers, one for each thing it hears, and then hangs up."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(HANG)

    def speak():
        with theirs:
            for answer in answers:
                theirs.recv(1 << 20)
                for part in answer if isinstance(answer, list) else [answer]:
                    theirs.sendall(part)

    thread = threading.Thread(target=speak)
    thread.start()
    wire = Wire(ours, "the server", clock=SYSTEM_CLOCK, longest=longest)
    try:
        yield wire
    finally:
        wire.close()
        thread.join(HANG)


def soon():
    return time.monotonic() + HANG


def test_items_come_whole_however_they_are_cut():
    answer = b"VALUE a 1 5\r\n\r\nEND\r\nVALUE b 2 0\r\n\r\nEND\r\n"
    for cut in range(1, len(answer)):
        with wired([answer[:cut], answer[cut:]]) as wire:
            assert wire.items(b"get a b\r\n", soon()) == {b"a": Item(1, b"\r\nEND", b""), b"b": Item(2, b"", b"")}


def test_one_byte_at_a_time():
    answer = b"VALUE a 47873 3 77\r\nxyz\r\nEND\r\n"
    with wired([bytes([byte]) for byte in answer]) as wire:
        assert wire.items(b"gets a\r\n", soon()) == {b"a": Item(47873, b"xyz", b"77")}


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x00\xff\xfe\r\n",
        b"VALUE a\r\n",
        b"VALUE a b c\r\nEND\r\n",
        b"VALUE a 0 -1\r\n",
        b"VALUE a 0 1\r\nxyz\r\nEND\r\n",
        b"STORED\r\n",
        b"x" * 20_000,
    ],
)
def test_nonsense_is_an_error_of_its_own_kind_and_retryable(nonsense):
    with wired(nonsense) as wire, pytest.raises(exceptions.MemcacheUnknownError) as caught:
        wire.items(b"get a\r\n", soon())
    assert len(str(caught.value)) < 200
    assert type(ERRORS.translate(caught.value, doing="get")) is errors.ConnectionLost


@pytest.mark.parametrize(
    "cut", [b"", b"VALUE a 0 10", b"VALUE a 0 10\r\n", b"VALUE a 0 10\r\n12345", b"VALUE a 0 2\r\nxy\r"]
)
def test_a_connection_that_ends_in_the_middle_is_told(cut):
    with wired(cut) as wire, pytest.raises(exceptions.MemcacheUnexpectedCloseError):
        wire.items(b"get a\r\n", soon())


def test_an_answer_that_is_an_error_stands_in_its_place():
    said = b"STORED\r\nSERVER_ERROR out of memory storing object\r\nNOT_STORED\r\nERROR\r\n"
    with wired(said) as wire:
        first, second, third, fourth = wire.lines(b"x\r\n", 4, (b"STORED", b"NOT_STORED"), soon())
    assert (first, third) == (b"STORED", b"NOT_STORED")
    assert type(second) is exceptions.MemcacheServerError
    assert type(fourth) is exceptions.MemcacheUnknownCommandError


def test_a_deadline_bounds_a_server_that_drips():
    stop = threading.Event()
    ours, theirs = socket.socketpair()

    def drip():
        with theirs:
            while not stop.wait(0.02):
                theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    wire = Wire(ours, "the server", clock=SYSTEM_CLOCK, longest=HANG)
    began = time.monotonic()
    with pytest.raises(TimeUp):
        wire.items(b"get a\r\n", began + 0.3)
    assert time.monotonic() - began < HANG
    stop.set()
    thread.join(HANG)
    wire.close()


def test_silence_is_the_servers_and_a_deadline_the_calls():
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours, "the server", clock=SYSTEM_CLOCK, longest=0.1)
        with pytest.raises(Silence) as silent:
            wire.items(b"get a\r\n", soon())
        with pytest.raises(TimeUp) as late:
            wire.items(b"get a\r\n", time.monotonic() + 0.05)
        with pytest.raises(Late):
            wire.items(b"get a\r\n", time.monotonic() - 1)
        wire.close()
    assert type(silent.value) is Silence
    assert type(ERRORS.translate(silent.value, doing="get")) is errors.ConnectionLost
    assert type(ERRORS.translate(late.value, doing="get")) is errors.OperationTimeout


def test_a_stray_answer_or_an_end_shows_before_a_wire_is_used_again():
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "the server", clock=SYSTEM_CLOCK, longest=HANG)
    assert wire.is_quiet()
    theirs.sendall(b"END\r\n")
    assert not wire.is_quiet()
    theirs.close()
    assert not wire.is_quiet()
    wire.close()


def test_a_server_that_tells_no_time_is_none_of_ours():
    with (
        wired(b"STAT pid 1\r\nSTAT empty\r\nEND\r\n") as wire,
        pytest.raises(exceptions.MemcacheUnknownError, match="time"),
    ):
        wire.ask_time(soon())


def test_the_servers_time_is_known_to_lie_between_two_moments():
    with wired(b"STAT time 1800000000\r\nEND\r\n") as wire:
        wire.ask_time(soon())
        assert 1_800_000_000 <= wire.not_before() <= wire.not_after()
        assert wire.not_after() - wire.not_before() >= 2


# -- the table of errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind", "retryable"),
    [
        (b"SERVER_ERROR out of memory storing object", errors.StorageFull, False),
        (b"SERVER_ERROR object too large for cache", errors.ResultTooLarge, False),
        (b"SERVER_ERROR something else", errors.TransportError, False),
        (b"CLIENT_ERROR unauthenticated", errors.AccessDenied, False),
        (b"CLIENT_ERROR authentication failure", errors.AccessDenied, False),
        (b"ERROR Too many open connections", errors.Throttled, True),
        (b"ERROR", errors.ConnectionLost, True),
    ],
)
def test_what_the_server_says_becomes_one_of_ours(said, kind, retryable):
    translated = ERRORS.translate(answer_of(said), doing="put")
    assert (type(translated), translated.retryable) == (kind, retryable)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unreachable("x"), errors.NotConnected),
        (Late("x"), errors.OperationTimeout),
        (Crowded("x"), errors.Throttled),
        (Denied("x"), errors.AccessDenied),
        (exceptions.MemcacheUnexpectedCloseError("out of memory"), errors.ConnectionLost),
        (OSError("x"), errors.ConnectionLost),
    ],
)
def test_what_happened_to_us_becomes_one_of_ours(error, kind):
    assert type(ERRORS.translate(error, doing="put")) is kind


def test_what_is_no_error_is_none():
    assert [answer_of(line) for line in (b"STORED", b"END", b"ERRORS", b"", b"VALUE a 0 1")] == [None] * 5
