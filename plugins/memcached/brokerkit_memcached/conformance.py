"""How the conformance suite reaches memcached: private servers, foreign access, a server that evicts, one with TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

from brokerkit_conformance import Admin, FullServer, Harness, Role, SecureServer, ServerControl, StorageMap

from brokerkit.capabilities import Impossible
from brokerkit.servers import Memcached
from brokerkit.url import URL
from brokerkit_memcached.foreign import MemcachedAdmin

__all__ = ["MemcachedHarness"]

_PREFIXES: Final = ("bk:", "bk2:")
_NO_BROKER: Final = Impossible("memcached holds results only")
_STORAGE: Final[StorageMap] = {**dict.fromkeys(Role, _NO_BROKER), Role.RESULT: "result/[^/]*/{name}"}


@final
class MemcachedHarness(Harness):
    """One server for most cases; two prefixes are two applications. It is a result store: there are no broker URLs."""

    def __init__(self) -> None:
        self._servers = contextlib.ExitStack()
        self._known: dict[tuple[str, int | None], Memcached] = {}
        self._main: Memcached | None = None

    def start(self) -> None:
        """Start the server of most cases."""
        self._main = self._new()
        self.server = f"memcached {_told(self._main, 'stats')['version']}"
        self.emulator = False

    def stop(self) -> None:
        """Stop all servers."""
        self._servers.close()

    def results_urls(self) -> Sequence[str]:
        """Two applications of one server."""
        return _applications(self._main) if self._main else ()

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """A new server, for results."""
        return (), _applications(self._new())

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - memcached goes by its own
        """The client of pymemcache."""
        return MemcachedAdmin([URL.parse(url).hosts[0]], _PREFIXES)

    def server_control(self, url: str) -> ServerControl | None:
        """The server itself."""
        return self._known.get(URL.parse(url).hosts[0])

    def server_settings(self) -> Mapping[str, str]:
        """Memory and eviction, as the server says."""
        if self._main is None:
            return {}
        told = _told(self._main, "stats settings")
        return {name: told[name] for name in ("maxbytes", "item_size_max", "evictions", "cas_enabled", "num_threads")}

    def storage_map(self) -> StorageMap:
        """Every item is a result."""
        return _STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A server that evicts nothing, and whose memory others fill."""
        server = self._new(memory=1, evict=False)

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            if full:
                fillers = (f"set filler{number} 0 0 1000 noreply\r\n{'.' * 1000}" for number in range(2000))
                server.command("\r\n".join([*fillers, "version"]))
            else:
                server.command("flush_all")

        yield FullServer(server.url(), {}, bound)

    def tls(self) -> SecureServer:
        """A server with TLS, one that others have signed, and one without TLS."""
        good, other, plain = (self._new(tls=tls) for tls in (True, True, False))
        url, ours = f"{good.url()}?ssl=true", f"&ssl_ca_certs={good.certificates.ca}"
        untrusted = {
            "wrong authority": f"{url}&ssl_ca_certs={other.certificates.ca}",
            "wrong host": f"{url}{ours}".replace("127.0.0.1", "127.1"),  # the same machine by another name
        }
        return SecureServer(f"{url}{ours}", untrusted, plain=f"{plain.url()}?ssl=true{ours}")

    def evicting_urls(self) -> tuple[str | None, str | None]:
        """A server that evicts, as all of them do by default."""
        return None, self._new(memory=1).url()

    def _new(self, **settings: Any) -> Memcached:
        server = self._servers.enter_context(Memcached(**settings))
        self._known[URL.parse(server.url()).hosts[0]] = server
        return server


def _applications(server: Memcached) -> Sequence[str]:
    return [server.url(), f"{server.url()}?key_prefix={_PREFIXES[1]}"]


def _told(server: Memcached, command: str) -> Mapping[str, str]:
    lines = (line.split(" ", 2) for line in server.command(command).splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3}  # noqa: PLR2004 - STAT, name, value
