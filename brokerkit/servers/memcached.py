"""memcached: plain, over a unix socket, or TLS; with so little memory that it evicts, if wished."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final, final

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, memcached_version
from brokerkit.servers._places import Local
from brokerkit.servers._single import Single
from brokerkit.servers.certificates import Certificates
from brokerkit.servers.errors import ServerFailed

__all__ = ["Memcached"]

_USER: Final = "nobody"
_LAST_LINE: Final = re.compile(
    rb"(?:\A|\r\n)(?:(?:NOT_)?STORED|EXISTS|(?:NOT_)?FOUND|DELETED|TOUCHED|OK|RESET|END|ERROR|\d+|"
    rb"(?:CLIENT_ERROR|SERVER_ERROR|VERSION) [^\r\n]*)\r\n\Z"
)


@final
class Memcached(Single):
    """One memcached. Boots in some 20 ms; an orderly stop takes it a second. After any stop it is empty.

    Its SASL and file authentication are left out: the usual Python clients do not speak them.

    Args:
        unix: listen on a unix socket only; memcached cannot do both.
        tls: speak TLS only; `certificates.ca` is whom to trust.
        memory: in MiB, at least 1. With 1, some 900 items of 1 kB fit.
        evict: drop the least recently used items when the memory is full; False: refuse to store.
    """

    product = "memcached"
    programs: ClassVar[Sequence[str]] = ("memcached",)
    packages = "sudo apt-get install -y --no-install-recommends memcached"
    default_port = 11211
    image = "memcached:1.6"

    def __init__(self, *, unix: bool = False, tls: bool = False, memory: int = 64, evict: bool = True) -> None:
        if unix and tls:
            raise ValueError("memcached speaks TLS over TCP only")
        small = memory != 64  # noqa: PLR2004 - memcached's own default
        super().__init__(unix * "unix", tls * "tls", small * "small", (not evict) * "noevict")
        self._unix, self._tls, self._memory, self._evict = unix, tls, memory, evict

    def url(self) -> str:
        """The URL; with the path of the socket if it listens on one. TLS shows in no URL: see `certificates`."""
        if external := self._external():
            return external.url
        return f"memcached://{self._socket()}" if self._unix else f"memcached://127.0.0.1:{self._port('main')}"

    @property
    def certificates(self) -> Certificates:
        """The certificates of a server with `tls`."""
        folder = self._local().folder / "tls"
        return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def command(self, line: str, timeout: float = 5.0) -> str:
        r"""Send a command of the text protocol over a connection of its own, and return its whole answer.

        Example:
            server.command("set greeting 0 0 5\r\nhello")  # "STORED"

        Raises:
            ServerFailed: the server closed the connection before its answer was complete.
        """
        answer = b""
        with self._address().open(timeout) as connection:
            connection.sendall(line.encode() + b"\r\n")
            while not _LAST_LINE.search(answer):
                more = connection.recv(65536)
                if not more:
                    raise ServerFailed(f"memcached closed the connection after {line!r}")
                answer += more
        return answer.decode(errors="replace").removesuffix("\r\n")

    def _prepare(self, local: Local) -> None:
        local.own_folder("data", _USER)
        if self._tls:
            made = Certificates.make(local.own_folder("tls", _USER))
            for file in (made.ca, made.cert, made.key):
                local.give(file, _USER)

    def _command(self, local: Local) -> Command:  # noqa: ARG002 - needs no file
        words = [self._program("memcached"), "-u", _USER, *self._limits()]
        if self._unix:
            words += ["-s", self._socket(), "-a", "0700"]
        else:
            words += ["-l", "127.0.0.1", "-p", str(self._port("main")), "-U", "0"]
        if self._tls:
            words += ["-Z", "-o", f"ssl_chain_cert={self.certificates.cert},ssl_key={self.certificates.key}"]
        return Command(words)

    def _limits(self) -> list[str]:
        """-m, and -I where the default limit of an item, 1 MiB, would be over half of the memory, which it refuses."""
        words = ["-m", str(self._memory)]
        words += ["-I", "512k"] if self._memory == 1 else []
        return words if self._evict else [*words, "-M"]

    def _greet(self, address: Address) -> str:
        return memcached_version(address)

    def _local_address(self) -> Address:
        if self._unix:
            return Address(unix=self._socket())
        return Address(port=self._port("main"), tls=self._tls, ca=str(self.certificates.ca) if self._tls else None)

    def _socket(self) -> str:
        return f"{self._local().folder}/data/mc.sock"

    def _container(self) -> tuple[Sequence[str], Sequence[str]] | None:
        return None if self._unix or self._tls else (["memcached", *self._limits()], ())
