"""A Redis master, its replica, and three sentinels that promote the replica within two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, cast, final

from brokerkit.servers._fleet import Fleet
from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, Resp, redis_version
from brokerkit.servers._places import Local
from brokerkit.servers._single import Single
from brokerkit.servers.certificates import Certificates
from brokerkit.servers.redis import Redis

__all__ = ["RedisSentinel"]

_NAME: Final = "bk"
_SENTINELS: Final = 3


@final
class RedisSentinel(Fleet):
    """Two Redis and three sentinels. Up after some 2 seconds, when the sentinels know each other and the replica.

    After a failover the old master comes back as a replica only 10 to 15 s after its restart.

    Args:
        aof: as for `Redis`.
        tls: speak TLS only with and between the Redis, as for `Redis`; the sentinels themselves are asked without.
        acl: as for `Redis`; the sentinels themselves let anybody in.
        watch_from: the address of this machine that the sentinels connect from; "" for any. Another one than 127.0.0.1 tells
            them from clients. Linux has all of 127.0.0.0/8.
    """

    product = "redis-sentinel"
    master_name: ClassVar[str] = _NAME

    def __init__(
        self,
        *,
        aof: Literal["", "always", "everysec"] = "",
        tls: bool = False,
        acl: bool = False,
        watch_from: str = "",
    ) -> None:
        # the replica gets its copy at once, instead of after 5 s
        settings = {"repl-diskless-sync-delay": "0"}
        settings |= {"tls-replication": "yes"} if tls else {}
        settings |= {"masteruser": "admin", "masterauth": Redis.logins["admin"]} if acl else {}
        settings |= {"protected-mode": "no"} if watch_from else {}  # it lets in nobody but 127.0.0.1
        first, second = (_Replicated(aof=aof, tls=tls, acl=acl, settings=settings) for _ in range(2))
        second.follows = first
        watchers = [_Sentinel(first, tls=tls, acl=acl, watch_from=watch_from) for _ in range(_SENTINELS)]
        super().__init__([first, second, *watchers])

    @property
    def redises(self) -> tuple[Redis, Redis]:
        """The two Redis, whoever is the master now."""
        return cast("tuple[Redis, Redis]", self._parts[:2])

    @property
    def sentinels(self) -> tuple[Single, ...]:
        """The three sentinels."""
        return self._parts[2:]

    @property
    def master(self) -> Redis:
        """Whom the first sentinel that answers calls the master."""
        return next(iter(self.masters), self.redises[0])

    @property
    def masters(self) -> tuple[Redis, ...]:
        """Whom each sentinel that answers calls the master: for a while after a failover they differ."""
        by_port = {one.facts.port: one for one in self.redises}
        answering = (cast("_Sentinel", sentinel) for sentinel in self.sentinels if sentinel.ready())
        return tuple(by_port[each.master_port()] for each in answering)

    @property
    def replica(self) -> Redis:
        """The one that is not the master."""
        first, second = self.redises
        return second if self.master is first else first

    def url(self, *, database: int = 0) -> str:
        """The URLs of the sentinels, apart by semicolons, with the database in the first; a client needs `master_name` too."""
        if external := self._external():
            return external.url
        ports = [sentinel.facts.port for sentinel in self.sentinels]
        first, *others = (f"sentinel://127.0.0.1:{port}" for port in ports)
        return ";".join([f"{first}/{database}", *others])

    def _together(self) -> bool:
        if external := self._external():
            with Resp(external.address(_Sentinel.default_port), external.login) as connection:
                return bool(connection.call("SENTINEL", "MASTERS"))
        return all(cast("_Sentinel", sentinel).knows_all() for sentinel in self.sentinels)


class _Replicated(Redis):
    part_of_fleet = True
    follows: Redis | None = None

    @property
    def certificates(self) -> Certificates:
        return super().certificates if self.follows is None else self.follows.certificates

    def _lines(self, local: Local) -> dict[str, str]:
        lines = super()._lines(local)
        return lines if self.follows is None else lines | {"replicaof": f"127.0.0.1 {self.follows.facts.port}"}

    def _certified(self, local: Local) -> Certificates:
        return super()._certified(local) if self.follows is None else self.follows.certificates


class _Sentinel(Single):
    product = "redis"
    programs: ClassVar[Sequence[str]] = ("redis-server",)
    packages = Redis.packages
    default_port = 26379
    part_of_fleet = True

    def __init__(self, first: Redis, *, tls: bool, acl: bool, watch_from: str) -> None:
        super().__init__("sentinel")
        self._first = first
        self._tls, self._acl, self._source = tls, acl, watch_from

    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self._port('main')}"

    def call(self, *words: str) -> Any:
        with Resp(self._local_address()) as connection:
            return connection.call(*words)

    def master_port(self) -> int:
        """The port of whom it calls the master."""
        _, port = self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _NAME)
        return int(port)

    def knows_all(self) -> bool:
        """Whether it sees the master at work, the replica and the other sentinels."""
        flat = [word.decode() for word in self.call("SENTINEL", "MASTER", _NAME)]
        seen = dict(zip(flat[::2], flat[1::2], strict=True))
        known = (seen["flags"], int(seen["num-other-sentinels"]), int(seen["num-slaves"]))
        return known == ("master", _SENTINELS - 1, 1)

    def _prepare(self, local: Local) -> None:
        data = local.own_folder("data", None)  # a sentinel rewrites its file
        quorum = _SENTINELS // 2 + 1
        lines = [
            f"port {self._port('main')}",
            "bind 127.0.0.1",
            f"dir {data}",
            f"sentinel monitor {_NAME} 127.0.0.1 {self._first.facts.port} {quorum}",
            f"sentinel down-after-milliseconds {_NAME} 500",
            f"sentinel failover-timeout {_NAME} 3000",
        ]
        if self._acl:
            lines += [f"sentinel auth-user {_NAME} admin", f"sentinel auth-pass {_NAME} {Redis.logins['admin']}"]
        if self._source:
            lines += [f"bind-source-addr {self._source}", "sentinel announce-ip 127.0.0.1"]
        if self._tls:  # replication stands for every connection between servers
            made = self._first.certificates
            lines += [f"tls-port {self._port('tls')}", "tls-replication yes", "tls-auth-clients no"]
            lines += [f"tls-cert-file {made.cert}", f"tls-key-file {made.key}", f"tls-ca-cert-file {made.ca}"]
        (local.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _command(self, local: Local) -> Command:
        return Command([self._program("redis-server"), f"{local.folder}/sentinel.conf", "--sentinel"])

    def _greet(self, address: Address) -> str:
        return redis_version(address)
