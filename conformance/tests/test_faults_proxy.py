"""The fault proxy: every fault bites, says so, and can be lifted; and a fault without effect is noticed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

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
    Proxy,
    ProxyBroken,
    Refuse,
    Slow,
    Way,
    biting,
    prove,
)
from brokerkit_conformance.faults.echo import Client, EchoServer
from brokerkit_conformance.faults.injections import Injection
from brokerkit_conformance.faults.transcript import Transcript
from brokerkit_conformance.model import Inconclusive

from brokerkit.testing import wait_until


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as one:
        yield one


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    with Client(proxy.host, proxy.port) as one:
        yield one


def talk(client: Client, words: bytes) -> bytes:
    client.send(words)
    return client.receive(len(words))


def test_proving_leaves_the_traffic_of_the_proxy_in_use_alone(proxy: Proxy, client: Client) -> None:
    assert talk(client, b"one") == b"one"
    proxy.turn()
    before = proxy.traffic()
    assert prove(KillConnections(), proxy).proved
    assert prove(Refuse(), proxy).proved
    assert proxy.traffic() == before
    assert talk(client, b"two") == b"two"


def test_everything_passes_unharmed_without_a_fault(proxy: Proxy, client: Client, echo: EchoServer) -> None:
    content = bytes(range(256)) * 8192
    client._socket.settimeout(20)
    for first in range(0, len(content), 1 << 16):
        assert talk(client, content[first : first + (1 << 16)]) == content[first : first + (1 << 16)]
    assert echo.got() == content
    traffic = proxy.traffic()
    assert (traffic.up, traffic.down) == (len(content),) * 2
    assert traffic.connections == traffic.open == 1


def test_a_held_reply_comes_when_it_is_let_go_or_never(proxy: Proxy, client: Client, echo: EchoServer) -> None:
    assert talk(client, b"warm") == b"warm"
    holding = proxy.inject(HoldReply(containing=b"id-7"))
    assert talk(client, b"id-6") == b"id-6"
    client.send(b"id-7")
    holding.wait()
    assert holding.held() == b"id-7"
    assert echo.got() == b"warmid-6id-7"
    holding.lift()
    holding.lift()
    assert client.receive(4) == b"id-7"

    second = proxy.inject(HoldReply())
    client.send(b"id-8")
    second.wait()
    second.drop()
    assert client.read_to_end() == (b"", True)


def test_a_reply_is_found_although_it_comes_in_pieces(proxy: Proxy, client: Client) -> None:
    holding = proxy.inject(HoldReply(containing=b"needle"))
    client.send(b"....nee")
    assert client.receive(7) == b"....nee"
    client.send(b"dle")
    assert holding.wait().size == 3
    assert client.nothing_there()


def test_only_one_reply_is_held_and_others_go_on(proxy: Proxy, client: Client) -> None:
    holding = proxy.inject(HoldReply())
    client.send(b"first")
    holding.wait()
    with Client(proxy.host, proxy.port) as other:
        assert talk(other, b"second") == b"second"
    assert holding.effect().connections == {0}


def test_a_lost_reply_was_a_done_request(proxy: Proxy, client: Client, echo: EchoServer) -> None:
    assert talk(client, b"before") == b"before"
    cut = proxy.inject(Cut(way=Way.DOWN, once=b"id-7"))
    assert talk(client, b"id-6") == b"id-6"
    client.send(b"id-7")
    assert client.read_to_end() == (b"", True)
    assert cut.effect().times == 1
    assert echo.got().endswith(b"id-7")
    with Client(proxy.host, proxy.port) as again:
        assert talk(again, b"id-7") == b"id-7", "one connection is cut, not its repetition"


def test_an_earlier_reply_is_not_taken_for_the_lost_one(proxy: Proxy, client: Client) -> None:
    slow_down = proxy.inject(Slow(latency=3600.0, way=Way.DOWN))
    cut = proxy.inject(Cut(way=Way.DOWN, once=b"two"))
    client.send(b"one")
    proxy.wait_until_seen(b"one", Way.DOWN)
    proxy.turn()
    slow_up = proxy.inject(Slow(latency=3600.0, way=Way.UP))
    client.send(b"two")
    proxy.wait_until_seen(b"two", Way.UP)
    slow_down.lift()
    assert client.receive(3) == b"one"
    assert not cut.effect().bit
    slow_up.lift()
    assert client.read_to_end() == (b"", True)


def test_a_cut_may_hit_every_connection(proxy: Proxy) -> None:
    cut = proxy.inject(Cut(way=Way.UP, after=2, times=None, ending=Ending.FIN))
    for _ in range(3):
        with Client(proxy.host, proxy.port) as one:
            one.send(b"abcdef")
            assert one.read_to_end() in [(b"", False), (b"ab", False)]
    assert cut.effect().connections == {0, 1, 2}


def test_a_cut_passes_exactly_so_many_bytes(proxy: Proxy, client: Client) -> None:
    proxy.inject(Cut(way=Way.DOWN, after=5, ending=Ending.FIN))
    client.send(b"0123456789")
    assert client.read_to_end() == (b"01234", False)


def test_a_black_hole_swallows_the_end_of_a_connection_too(proxy: Proxy, echo: EchoServer) -> None:
    with Client(proxy.host, proxy.port) as one:
        assert talk(one, b"x") == b"x"
        hole = proxy.inject(Blackhole(way=Way.UP))
    hole.wait()
    assert proxy.traffic().open == 1
    assert echo._ends == 0
    hole.lift()
    assert echo.wait_for_ends(1)


def test_half_open_swallows_a_reset(proxy: Proxy, client: Client, echo: EchoServer) -> None:
    assert talk(client, b"x") == b"x"
    hole = proxy.inject(HalfOpen())
    client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client._socket.close()
    hole.wait()
    assert proxy.traffic().open == 1
    assert echo._ends == 0
    hole.lift()
    assert echo.wait_for_ends(1)
    proxy.wait_for_connections(0)


def test_half_open_may_spare_new_connections(proxy: Proxy, client: Client) -> None:
    assert talk(client, b"x") == b"x"
    with proxy.inject(HalfOpen(new=False)) as hole:
        client.send(b"into nothing")
        hole.wait()
        with Client(proxy.host, proxy.port) as new:
            assert talk(new, b"y") == b"y"
        assert client.nothing_there()
    assert client.receive(12) == b"into nothing"


def test_faults_add_up(proxy: Proxy, client: Client) -> None:
    proxy.inject(Slow(latency=0.02))
    proxy.inject(Chunks())
    began = time.monotonic()
    assert talk(client, b"0123456789") == b"0123456789"
    assert time.monotonic() - began >= 0.039


def test_latency_does_not_add_up_over_pieces(proxy: Proxy, client: Client) -> None:
    slow = proxy.inject(Slow(latency=0.5, way=Way.DOWN))
    began = time.monotonic()
    for number in range(20):
        client.send(b"%4d" % number)
        proxy.wait_until_seen(b"%4d" % number, Way.DOWN)
    assert client.receive(80) == b"".join(b"%4d" % number for number in range(20))
    assert time.monotonic() - began < 9, "20 pieces of half a second each, one after the other, take 10"
    assert slow.effect().times >= 1


def test_lifting_wakes_a_slow_line(proxy: Proxy, client: Client) -> None:
    slow = proxy.inject(Slow(latency=3600.0))
    client.send(b"x")
    proxy.wait_until_seen(b"x")
    slow.lift()
    assert client.receive(1) == b"x"


def test_refused_clients_come_again_when_it_is_lifted(proxy: Proxy, client: Client) -> None:
    for _ in range(2):
        with proxy.inject(Refuse()) as refusing:
            assert refusing.effect().bit
            with pytest.raises(ConnectionRefusedError):
                Client(proxy.host, proxy.port)
        with Client(proxy.host, proxy.port) as new:
            assert talk(new, b"y") == b"y"
    assert talk(client, b"x") == b"x"


def test_killing_says_which_connections(proxy: Proxy, client: Client) -> None:
    assert not proxy.kill_connections().bit or proxy.traffic().connections
    with Client(proxy.host, proxy.port) as other:
        assert talk(other, b"x") == b"x"
        effect = proxy.kill_connections()
        assert effect.connections
        assert other.read_to_end() == (b"", True)
    proxy.wait_for_connections(0)
    assert not proxy.kill_connections().bit


def test_fifty_flaps_leave_nothing_behind(proxy: Proxy) -> None:
    for _ in range(50):
        with Client(proxy.host, proxy.port) as one:
            assert talk(one, b"x") == b"x"
            proxy.kill_connections()
    proxy.wait_for_connections(0)
    wait_until(lambda: not proxy._lane._tasks)
    assert proxy.traffic().connections == 50


def test_requests_are_counted_by_turns(proxy: Proxy, client: Client) -> None:
    for _ in range(5):
        talk(client, b"request")
    assert proxy.traffic().requests == 5


def test_what_was_seen_can_be_waited_for_and_counted_from_a_mark(proxy: Proxy, client: Client) -> None:
    talk(client, b"id-1")
    mark = proxy.mark()
    assert proxy.seen(b"id-1") == 1
    assert proxy.seen(b"id-1", Way.BOTH) == 2
    assert proxy.seen(b"id-1", since=mark) == 0
    talk(client, b"id-1")
    proxy.wait_until_seen(b"id-1", Way.DOWN, count=2)
    proxy.wait_until_seen(b"id-1", Way.UP, since=mark)
    with pytest.raises(Inconclusive, match="did not come"):
        proxy.wait_until_seen(b"never", within=0.05)


def test_what_did_not_bite_in_time_is_inconclusive(proxy: Proxy) -> None:
    garbling = proxy.inject(Garble())
    assert not garbling.effect().bit
    with pytest.raises(Inconclusive, match="had no effect"):
        garbling.wait(within=0.05)


def test_a_server_that_is_away_shows_as_such() -> None:
    with EchoServer() as gone:
        port = gone.port
    with Proxy("127.0.0.1", port) as proxy, Client(proxy.host, proxy.port) as one:
        one.read_to_end()
        wait_until(lambda: proxy.traffic().unreachable == 1)
        assert proxy.traffic().open == 0


def test_unix_sockets_on_both_sides(tmp_path: Path, echo: EchoServer) -> None:
    inner, outer = str(tmp_path / "in"), str(tmp_path / "out")
    with (
        Proxy("127.0.0.1", echo.port, listen=inner) as near,
        Proxy(inner, listen=outer, beside=near) as far,
        Client(far.host, far.port) as one,
    ):
        assert talk(one, b"through two sockets") == b"through two sockets"
        with far.inject(Refuse()) as refusing:
            assert refusing.effect().bit
            with pytest.raises(ConnectionRefusedError):
                Client(far.host, far.port)
        with Client(far.host, far.port) as again:
            assert talk(again, b"y") == b"y"
        assert far.kill_connections().bit
        assert one.read_to_end()[0] == b""
    assert not list(tmp_path.iterdir())


def test_a_proxy_with_several_doors_is_one(echo: EchoServer) -> None:
    with EchoServer() as other, Proxy() as proxy:
        doors = [proxy.door("127.0.0.1", echo.port), proxy.door("127.0.0.1", other.port)]
        assert proxy.address == doors[0]
        assert len(set(doors)) == 2
        with Client(*doors[0]) as one, Client(*doors[1]) as two:
            assert [talk(one, b"one"), talk(two, b"two")] == [b"one", b"two"]
            assert (echo.got(), other.got()) == (b"one", b"two")
            assert proxy.traffic().connections == 2
            with proxy.inject(HoldReply(containing=b"held")) as holding:
                two.send(b"held")
                holding.wait()
                assert talk(one, b"held") == b"held", "one reply is held, of whichever door"
            with proxy.inject(Refuse()) as refusing:
                assert refusing.effect().times == 2
                for door in doors:
                    with pytest.raises(ConnectionRefusedError):
                        Client(*door)
            assert proxy.kill_connections().times == 2
            assert (one.read_to_end(), two.read_to_end()[1]) == ((b"", True), True)
        with Client(*doors[1]) as again:
            assert talk(again, b"again") == b"again"


def test_a_door_listens_where_it_is_told_or_says_why_not(echo: EchoServer) -> None:
    with Proxy() as proxy, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            proxy.door("127.0.0.1", echo.port, listen=taken.getsockname())
        assert proxy.door("127.0.0.1", echo.port, listen=("127.0.0.1", 0))[0] == "127.0.0.1"


def test_connections_are_refused_though_a_forked_child_has_the_listener_too(proxy: Proxy) -> None:
    (door,) = proxy._lane.doors
    assert door._socket is not None
    with door._socket.dup(), proxy.inject(Refuse()) as refusing:
        assert refusing.effect().bit
        with pytest.raises(ConnectionRefusedError):
            Client(proxy.host, proxy.port)
    with Client(proxy.host, proxy.port) as again:
        assert talk(again, b"x") == b"x"


def test_who_is_spared_suffers_from_nothing_and_is_not_counted(echo: EchoServer) -> None:
    with Proxy() as proxy:
        host, port = proxy.door("127.0.0.1", echo.port, spared=["127.0.0.1"])
        with Client(host, port) as watcher:
            assert talk(watcher, b"one") == b"one"
            with proxy.inject(Blackhole(way=Way.BOTH)) as hole:
                assert not proxy.kill_connections().bit
                assert talk(watcher, b"two") == b"two"
                assert not hole.effect().bit
            traffic = proxy.traffic()
            assert (traffic.connections, traffic.open, traffic.up, traffic.requests) == (0, 0, 0, 0)
            assert proxy.seen(b"two") == 0
            proxy.close()
            assert watcher.read_to_end() == (b"", True)


def test_a_failure_of_the_proxy_itself_is_not_swallowed(echo: EchoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Injection):
        async def carry(self, stream, piece, forward) -> None:
            raise ZeroDivisionError

    monkeypatch.setitem(biting._KINDS, Garble, Broken)
    proxy = Proxy("127.0.0.1", echo.port)
    proxy.inject(Garble())
    with Client(proxy.host, proxy.port) as one:
        one.send(b"x")
        one.read_to_end()
    with pytest.raises(ProxyBroken) as caught:
        proxy.close()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    proxy.close()


def test_a_transcript_forgets_the_oldest_bytes_and_keeps_its_offsets() -> None:
    transcript = Transcript(keep=10)
    for _ in range(10):
        transcript.append(b"abcdefg")
    assert transcript.total == 70
    assert transcript.end_of(b"g", 65) == 70
    assert transcript.end_of(b"abc") is not None
    assert transcript.end_of(b"a", 64) is None
    assert transcript.count(b"a") < 10
