"""Where servers for tests come from, what happens if they do not, and that nothing survives a killed test run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokerkit import servers
from brokerkit.servers import (
    PRODUCTS,
    ServerFailed,
    ServerMissing,
    _handshakes,
    _ports,
    _programs,
    _reaper,
    _single,
    required,
)
from brokerkit.servers._ports import Ports
from brokerkit.testing import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _no_servers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROKERKIT_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def redis() -> None:
    """Tests that need any server take Redis: it boots at once."""
    if not servers.Redis().installed() and not required("redis"):
        pytest.skip("no redis-server on PATH")


# ------------------------------------------------------------------------------------------------------------- missing


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_missing_server_says_what_to_type(product: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_programs, "_FOLDERS", ())
    monkeypatch.setattr(PRODUCTS[product], "folders", (), raising=False)
    monkeypatch.setattr(_single, "docker_answers", lambda: False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("BROKERKIT_REQUIRE", raising=False)
    remedy = r"Type: (sudo apt-get install -y --no-install-recommends [a-z -]+|pip install ministack==[\d.]+)\.$"
    with pytest.raises(ServerMissing, match=remedy) as caught:
        PRODUCTS[product]().start()
    assert not caught.value.required
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ServerMissing, match="It is required here") as caught:
        PRODUCTS[product]().start()
    assert caught.value.required


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "false"}, False),
        ({"BROKERKIT_REQUIRE": "memcached, redis"}, True),
        ({"BROKERKIT_REQUIRE": "memcached"}, False),
        ({"BROKERKIT_REQUIRE": "memcached", "CI": "true"}, False),
        ({"BROKERKIT_REQUIRE": "", "CI": "true"}, False),
    ],
)
def test_a_missing_server_is_a_failure_where_it_is_required(environ: dict[str, str], *, expected: bool) -> None:
    assert required("redis", environ) is expected


@pytest.mark.parametrize(("status", "expected"), [(0, True), (1, False)])
def test_docker_counts_only_if_its_daemon_answers(
    status: int, *, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\ntest $1 = info && exit {status}\nexit 7\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    _programs.docker_answers.cache_clear()
    assert _programs.docker_answers() is expected
    _programs.docker_answers.cache_clear()


def test_of_several_versions_the_newest_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for version in ("9.6", "15", "14"):
        program = tmp_path / "postgresql" / version / "bin" / "made-up-server"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    found = _programs.find_binary("made-up-server", f"{tmp_path}/postgresql/*/bin")
    assert found == f"{tmp_path}/postgresql/15/bin/made-up-server"
    assert _programs.find_binary("made-up-server") is None


# -------------------------------------------------------------------------------------------------------------- failing


@pytest.mark.usefixtures("redis")
def test_a_server_that_ends_early_shows_its_log() -> None:
    server = servers.Redis(settings={"no-such-setting": "1"})
    with pytest.raises(ServerFailed, match=r"(?s)did not start: it ended with status 1.*no-such-setting"):
        server.start()
    assert "no-such-setting" in server.logs()


@pytest.mark.usefixtures("redis")
def test_a_server_that_never_answers_is_killed_at_the_time_limit() -> None:
    server = servers.Redis(settings={"port": "0"})
    before = children()
    with pytest.raises(ServerFailed, match=r"(?s)not ready after 0.3 s: .*Connection refused.*Server initialized"):
        server.start(timeout=0.3)
    assert children() == before


def children() -> set[int]:
    """The children of this process, the guard aside, which may be born with the first server."""
    with servers.Redis():
        pass
    return {member.pid for member in _reaper.family(os.getpid()) if member.parent == os.getpid()}


@pytest.mark.usefixtures("redis")
def test_deeds_out_of_place_are_refused() -> None:
    server = servers.Redis()
    for deed in (server.pause, server.kill9, server.stop, server.restart, server.ready, server.url):
        with pytest.raises(ServerFailed, match="was not started"):
            deed()
    with server:
        with pytest.raises(ServerFailed, match="running already"):
            server.start()
        server.kill9()
        with pytest.raises(ServerFailed, match="does not run"):
            server.pause()


def test_memcached_cannot_do_tls_over_a_socket() -> None:
    with pytest.raises(ValueError, match="over TCP only"):
        servers.Memcached(unix=True, tls=True)


# ---------------------------------------------------------------------------------------------------------- handshakes


HANDSHAKES: dict[str, Any] = {
    "redis": _handshakes.redis_version,
    "memcached": _handshakes.memcached_version,
    "amqp": _handshakes.amqp_version,
    "postgresql": lambda address: _handshakes.postgresql_version(address, "me", "mine"),
    "mysql": _handshakes.mysql_version,
    "http": lambda address: _handshakes.http_version(address, "/"),
}


@contextlib.contextmanager
def listener() -> Iterator[tuple[socket.socket, _handshakes.Address]]:
    """A listening socket, which the test reads from and writes to by itself, and its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening, _handshakes.Address(port=listening.getsockname()[1])


@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_an_open_port_that_says_nothing_is_not_ready(handshake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda where, timeout: quick(where, 0.1))
    with listener() as (_, address), pytest.raises(TimeoutError):
        handshake(address)


@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_a_closed_port_is_not_ready(handshake: Any) -> None:
    with listener() as (_, address):
        pass
    with pytest.raises(ConnectionRefusedError):
        handshake(address)


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("name", [name for name in HANDSHAKES if name != "redis"])
def test_another_product_is_not_taken_for_the_own(name: str) -> None:
    with servers.Redis() as server, pytest.raises(OSError):
        HANDSHAKES[name](_handshakes.Address(port=server.facts.port))


def test_a_memcached_is_no_redis() -> None:
    server = servers.Memcached()
    if not server.installed() and not required("memcached"):
        pytest.skip("no memcached on PATH")
    with server, pytest.raises(_handshakes.NotReady, match="PONG"):
        _handshakes.redis_version(_handshakes.Address(port=server.facts.port))


def test_a_web_server_is_no_broker(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "-d", str(tmp_path), "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as web:
        try:
            assert web.stdout
            address = _handshakes.Address(port=int(web.stdout.readline().split(" port ")[1].split()[0]))
            assert "listing" in _handshakes.http_version(address, "/")
            with pytest.raises(_handshakes.NotReady, match="404"):
                _handshakes.http_version(address, "/absent")
            for name in ("redis", "memcached", "amqp", "mysql"):
                with pytest.raises(OSError):
                    HANDSHAKES[name](address)
        finally:
            web.kill()


# --------------------------------------------------------------------------------------------------------------- ports


def test_ports_are_unique_and_of_the_workers_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw13")
    one, other = Ports(), Ports()
    try:
        taken = [ports.take() for _ in range(40) for ports in (one, other)]
        assert len(set(taken)) == len(taken)
        assert all(23000 <= port < 24000 for port in taken)
    finally:
        one.release()
        other.release()
    one.release()


def test_a_port_is_not_taken_twice_nor_from_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports()
    port = ports.take()
    assert _ports._lock(port) is None  # held, as another test run would find it
    ports.release()
    lock = _ports._lock(port)
    assert lock is not None
    os.close(lock)
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as busy:
            busy.bind((host, port))
            assert not _ports._bindable(port)
    assert _ports._bindable(port)


def test_a_slice_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ports, "_bindable", lambda port: False)
    with pytest.raises(ServerFailed, match=r"no free port between 2\d000 and 2\d999"):
        Ports().take()


# --------------------------------------------------------------------------------------------------------------- guard

PROGRAM = """
    import os, sys, time
    from brokerkit import servers
    server = servers.Redis().start()
    trio = [servers.Redis().start() for _ in range(2)]
    trio[0].pause()
    for one in [server, *trio]:
        print(one.facts.pid, one.folder, flush=True)
    print("ready", flush=True)
    {end}
"""


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("end", "kill"),
    [
        pytest.param("sys.stdin.read()", True, id="killed"),
        # the forked child holds the pipe to the guard open, and outlives its parent
        pytest.param("sys.stdin.read() if os.fork() else sys.stdin.read()", True, id="killed-with-a-forked-child"),
        pytest.param("pass", False, id="ended-without-close"),
        pytest.param("os._exit(3)", False, id="ended-without-clean-up"),
    ],
)
def test_no_server_survives_its_test_run(end: str, *, kill: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(end=end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout
        lines = list(iter(run.stdout.readline, "ready\n"))
        pids = {int(line.split()[0]) for line in lines}
        folders = [Path(line.split()[1]) for line in lines]
        assert len(pids) == len(folders) == 3
        if kill:
            assert _reaper.living(pids) == pids
            run.send_signal(signal.SIGKILL)
        run.wait(20)
        wait_until(lambda: not _reaper.living(pids))
        wait_until(lambda: not any(folder.exists() for folder in folders))


def test_both_ways_to_list_processes_agree() -> None:
    with family("sleep 600 & wait") as leader:
        wait_until(lambda: len(_reaper.family(leader)) == 2)
        by_ps = {member for member in _reaper._listing_by_ps() if member.group == leader}
        assert by_ps == set(_reaper.family(leader))


def test_a_child_in_a_session_of_its_own_belongs_to_the_family() -> None:
    child = "import subprocess; subprocess.run(['sleep', '600'], start_new_session=True)"
    with family(f'"{sys.executable}" -c "{child}" & wait') as leader:
        wait_until(lambda: len({member.group for member in _reaper.family(leader)}) == 2)
        members = {member.pid for member in _reaper.family(leader)}
        assert _reaper.kill_family(leader) == members
        wait_until(lambda: not _reaper.living(members))


@contextlib.contextmanager
def family(script: str) -> Iterator[int]:
    """A shell that leads a process group of its own, by its process id; killed with all its children at the end."""
    with subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True) as leader:
        try:
            yield leader.pid
        finally:
            _reaper.kill_family(leader.pid)


# ------------------------------------------------------------------------------------------------------------- command


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_a_url_and_runs_until_a_signal_comes(number: signal.Signals) -> None:
    with command("redis", "tls", "aof=always") as run:
        assert run.stdout
        url = run.stdout.readline().strip()
        assert url.startswith("rediss://127.0.0.1:2")
        folder = Path(url.partition("ssl_ca_certs=")[2]).parent.parent
        assert folder.exists()
        run.send_signal(number)
        assert run.wait(20) == 0
        assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "name one of redis, redis-cluster"),
        (["rediss"], 2, "did you mean 'redis'"),
        (["redis", "tsl"], 2, "redis has no 'tsl'"),
        (["redis", "tls=perhaps"], 2, "tls is true or false, not 'perhaps'"),
        (["redis", "aof"], 2, "aof needs a value"),
        (["redis-cluster", "nodes=x"], 2, "invalid literal"),
        (["redis-cluster", "nodes=10"], 2, "1 to 9 nodes"),
        (["redis", "maxmemory=much"], 1, "did not start"),
    ],
)
@pytest.mark.usefixtures("redis")
def test_the_command_says_what_is_wrong(words: list[str], status: int, text: str) -> None:
    with command(*words) as run:
        _, errors = run.communicate(timeout=30)
        assert text in errors
        assert run.returncode == status


@pytest.mark.usefixtures("redis")
def test_the_command_notices_that_its_server_died() -> None:
    with command("redis") as run:
        assert run.stderr
        words = run.stderr.readline().split()
        os.kill(int(words[words.index("process") + 1].rstrip(";")), signal.SIGKILL)
        _, errors = run.communicate(timeout=30)
        assert "redis ended" in errors
        assert run.returncode == 1


def command(*words: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "brokerkit.servers", *words], **pipes)


# -------------------------------------------------------------------------------------------------------------- install


def install(path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run .ci/servers with the programs of a folder alone, besides those that it needs itself."""
    for name in ("bash", "env", "id"):
        if not (path / name).exists():
            (path / name).symlink_to(f"/usr/bin/{name}")
    return subprocess.run(
        ["/bin/bash", str(ROOT / ".ci" / "servers")],
        env={"PATH": str(path), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_install_script_names_the_packages_where_it_cannot_install(tmp_path: Path) -> None:
    told = install(tmp_path)
    assert (told.returncode, told.stdout) == (0, "")
    for package in ("redis-server", "rabbitmq-server", "memcached", "postgresql", "mariadb-server"):
        assert package in told.stderr
    assert install(tmp_path, CI="true").returncode == 1


def test_the_install_script_prints_the_line_to_type_where_it_may_not_install(tmp_path: Path) -> None:
    for name, text in {
        "dpkg-query": "test $4 = memcached && echo installed",
        "apt-get": "exit 9",
        "id": "echo 1000",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    told = install(tmp_path)
    line = "sudo apt-get install -y --no-install-recommends redis-server redis-tools rabbitmq-server postgresql mariadb-server"
    assert (told.returncode, told.stderr) == (0, f"For the tests with real servers type: {line}\n")
    assert install(tmp_path, CI="true").returncode == 1


def test_the_install_script_does_nothing_where_all_is_there(tmp_path: Path) -> None:
    for name, text in {"dpkg-query": "echo installed", "apt-get": "exit 9"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = install(tmp_path, CI="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
