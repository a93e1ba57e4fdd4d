"""The life of every server for tests: started, frozen, killed, restarted, stopped, and gone without a trace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from brokerkit import servers
from brokerkit.servers import ServerFailed, ServerMissing, _reaper
from brokerkit.testing import wait_until


@dataclass
class Life:
    """How one kind of server is made, told to keep a word, and asked for it; and whether it keeps it over a kill -9."""

    make: Callable[[], Any]
    put: Callable[[Any], object]
    get: Callable[[Any], object]
    keeps: bool


def redis_life(make: Callable[[], Any], *, keeps: bool = False) -> Life:
    return Life(make, lambda s: s.command("SET", "bk:x", "kept"), lambda s: s.command("GET", "bk:x") == b"kept", keeps)


def memcached_life(make: Callable[[], Any]) -> Life:
    return Life(
        make,
        lambda s: s.command("set x 0 0 4\r\nkept"),
        lambda s: "kept" in s.command("get x").splitlines(),
        keeps=False,
    )


def sql_life(make: Callable[[], Any]) -> Life:
    return Life(
        make,
        lambda s: (s.execute("CREATE TABLE words (word varchar(9))"), s.execute("INSERT INTO words VALUES ('kept')")),
        lambda s: tables(s) != "0" and s.execute("SELECT word FROM words") == "kept",
        keeps=True,
    )


def tables(server: Any) -> str:
    return str(server.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = 'words'"))


LIVES = {
    "redis": redis_life(servers.Redis),
    "redis-aof": redis_life(lambda: servers.Redis(aof="always"), keeps=True),
    "redis-tls": redis_life(lambda: servers.Redis(tls=True)),
    "redis-acl": redis_life(lambda: servers.Redis(acl=True)),
    "memcached": memcached_life(servers.Memcached),
    "memcached-unix": memcached_life(lambda: servers.Memcached(unix=True)),
    "memcached-tls": memcached_life(lambda: servers.Memcached(tls=True)),
    "postgresql": sql_life(servers.PostgreSQL),
    "mariadb": sql_life(servers.MariaDB),
}


def started(server: Any) -> Any:
    """Start a server. Where it is missing, the test is left out with the line to type, unless it is required."""
    try:
        return server.start()
    except ServerMissing as missing:
        if missing.required:
            raise
        return pytest.skip(str(missing))


def is_gone(pids: set[int]) -> bool:
    return not _reaper.living(pids)


@pytest.fixture(autouse=True)
def _no_servers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROKERKIT_TEST_")]:
        monkeypatch.delenv(name)


def whole(server: Any) -> set[int]:
    return {member.pid for member in _reaper.family(server.facts.pid)}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())
def test_a_server_lives_and_dies_as_told(life: Life) -> None:
    server = started(life.make())
    try:
        facts, url = server.facts, server.url()
        assert server.ready()
        assert (facts.place, facts.host, facts.emulator) == ("local", "127.0.0.1", False)
        assert facts.version == server.version() > "1"
        assert facts.port == 0 or 20000 <= facts.port < 30000
        life.put(server)

        server.pause()
        assert {member.state for member in _reaper.family(facts.pid)} == {"T"}
        assert not server.ready()
        server.resume()
        wait_until(server.ready)
        assert life.get(server)

        members = whole(server)
        server.kill9()
        assert is_gone(members)
        assert not server.ready()
        assert server.facts.pid is None
        server.restart()
        assert server.url() == url
        assert life.get(server) is life.keeps

        server.kill9()
        server.restart(keep_data=False)
        assert not life.get(server)

        server.stop()
        assert server.facts.pid is None
        server.start()
        assert server.ready()
        folder, members = server.folder, whole(server)
    finally:
        server.close()
    server.close()
    assert is_gone(members)
    assert not folder.exists()
    with pytest.raises(ServerFailed, match="is closed"):
        server.url()


@pytest.mark.parametrize("name", ["redis", "memcached", "postgresql", "mariadb"])
def test_a_server_named_by_the_environment_is_used_and_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    life = LIVES[name]
    own = started(life.make())
    with contextlib.closing(own):
        monkeypatch.setenv(f"BROKERKIT_TEST_{name.upper()}_URL", own.url())
        with life.make() as other:
            assert other.url() == own.url()
            assert (other.facts.place, other.facts.pid, other.facts.port) == ("environment", None, own.facts.port)
            assert other.version() == own.version()
            assert other.logs() == ""
            for deed in (other.pause, other.resume, other.kill9, other.restart, other.stop):
                with pytest.raises(servers.NotOurs, match=f"BROKERKIT_TEST_{name.upper()}_URL"):
                    deed()
        assert own.ready()
