"""Redis, one node: plain or TLS, always with a unix socket, if wished with users, a memory limit or an append-only file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal
from urllib.parse import quote

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, NotReady, Resp, redis_version
from brokerkit.servers._places import Local
from brokerkit.servers._single import Single
from brokerkit.servers.certificates import Certificates
from brokerkit.servers.errors import ServerFailed

__all__ = ["Redis"]

# Users of `acl=True`: what an application should be allowed to do and no more, and one for the tests themselves.
_PASSWORDS: Final[Mapping[str, str]] = {"app": "s3cret", "admin": "adm1n"}  # protect nothing
_ACL: Final = (
    "user default off",
    f"user app on >{_PASSWORDS['app']} ~bk:* &bk:* +@all -@admin -@dangerous",
    f"user admin on >{_PASSWORDS['admin']} ~* &* +@all",
)


class Redis(Single):
    """One Redis. Boots in some 20 ms, so a test can have its own.

    Without `aof` it stores nothing on disk, and a restart finds it empty. With `aof="always"` every confirmed write survives
    a kill -9.

    Args:
        tls: speak TLS only; `certificates.ca` is whom to trust.
        acl: no default user but "app", which may do no dangerous command and touches only keys and channels that begin
            with "bk:", and "admin". `url` has their passwords.
        maxmemory: the limit, such as "3mb"; an empty Redis uses about 1 MB.
        policy: what to evict at the limit; "noeviction" refuses writes instead.
        aof: the append-only file, flushed at each write ("always") or each second ("everysec").
        settings: further lines of the configuration file, by name.
    """

    product = "redis"
    programs: ClassVar[Sequence[str]] = ("redis-server",)
    packages = "sudo apt-get install -y --no-install-recommends redis-server redis-tools"
    default_port = 6379
    image = "redis:7"
    logins: ClassVar[Mapping[str, str]] = _PASSWORDS
    """Passwords of the users of `acl`, by name."""

    def __init__(
        self,
        *,
        tls: bool = False,
        acl: bool = False,
        maxmemory: str = "",
        policy: str = "allkeys-lru",
        aof: Literal["", "always", "everysec"] = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            tls * "tls", acl * "acl", maxmemory and "maxmemory", aof and "aof", "custom" if settings else ""
        )
        self._tls, self._acl, self._aof = tls, acl, aof
        self._memory = {"maxmemory": maxmemory, "maxmemory-policy": policy} if maxmemory else {}
        self._settings = dict(settings or {})

    def url(self, *, database: int = 0, user: str = "", unix: bool = False) -> str:
        """The URL of a database; with `acl` for the user "app" if none is named; over the unix socket if wished.

        An environment URL is returned as it is; naming anything else for it raises ServerFailed.
        """
        if external := self._external():
            if database or user or unix:
                raise ServerFailed("the environment's URL is the only one of this server")
            return external.url
        user = user or ("app" if self._acl else "")
        login = f"{user}:{quote(_PASSWORDS.get(user, ''))}@" if user else ""
        if unix:
            return f"redis+socket://{login}{self._local().folder}/r.sock?virtual_host={database}"
        scheme, query = ("rediss", f"?ssl_ca_certs={quote(str(self.certificates.ca))}") if self._tls else ("redis", "")
        return f"{scheme}://{login}127.0.0.1:{self._port('main')}/{database}{query}"

    @property
    def certificates(self) -> Certificates:
        """The certificates of a server with `tls`; in a fleet they are all nodes'."""
        folder = self._local().folder / "tls"
        return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def command(self, *words: str | bytes | float, timeout: float = 5.0) -> Any:
        """Send one command over a connection of its own, with all rights, and return its answer (bytes, int, None, a list).

        It needs no client library, so it serves as a control connection beside the client under test.

        Raises:
            ServerFailed: the server refused the command; the text is its answer.
        """
        with Resp(self._address(), self._login(), timeout=timeout) as connection:
            try:
                return connection.call(*words)
            except NotReady as refused:
                raise ServerFailed(f"redis refused {words[0]!r}: {refused}") from None

    def _prepare(self, local: Local) -> None:
        lines = self._lines(local)
        (local.folder / "redis.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    def _lines(self, local: Local) -> dict[str, str]:
        """The configuration file's lines by name; makes the files that they name."""
        data = local.own_folder("data", None)
        lines = {
            "port": str(self._port("main")),
            "bind": "127.0.0.1",
            "dir": str(data),
            "daemonize": "no",
            "save": '""',
        }
        lines |= {"unixsocket": f"{local.folder}/r.sock", "unixsocketperm": "700", "enable-debug-command": "local"}
        if self._tls:
            made = self._certified(local)
            lines |= {"port": "0", "tls-port": lines["port"], "tls-auth-clients": "no"}
            lines |= {"tls-cert-file": str(made.cert), "tls-key-file": str(made.key), "tls-ca-cert-file": str(made.ca)}
        if self._acl:
            (local.folder / "users.acl").write_text("\n".join(_ACL) + "\n")
            lines["aclfile"] = f"{local.folder}/users.acl"
        if self._aof:
            lines |= {"appendonly": "yes", "appendfsync": self._aof}
        return lines | self._memory | self._settings

    def _certified(self, local: Local) -> Certificates:
        """Return the certificates to show."""
        return Certificates.make(local.own_folder("tls", None))

    def _command(self, local: Local) -> Command:
        return Command([self._program("redis-server"), f"{local.folder}/redis.conf"])

    def _greet(self, address: Address) -> str:
        return redis_version(address, self._login())

    def _local_address(self) -> Address:
        ca = str(self.certificates.ca) if self._tls else None
        return Address(port=self._port("main"), tls=self._tls, ca=ca)

    def _login(self) -> Sequence[str]:
        if external := self._external():
            return external.login
        return ("admin", _PASSWORDS["admin"]) if self._acl else ()

    def _container(self) -> tuple[Sequence[str], Sequence[str]] | None:
        if self._tls or self._acl or self._settings:
            return None
        words = [word for name, value in self._memory.items() for word in (f"--{name}", value)]
        words += ["--appendonly", "yes", "--appendfsync", self._aof] if self._aof else ["--save", ""]
        return (["redis-server", *words], ())
