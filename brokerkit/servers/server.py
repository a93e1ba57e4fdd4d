"""What every server for tests can do, whatever it is and wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

__all__ = ["Facts", "Server"]


@dataclass(frozen=True)
class Facts:
    """What a server is; for reports.

    Attributes:
        product: "redis", "rabbitmq", …
        version: as the server itself said in its handshake; "" if it says nothing to this user.
        emulator: it imitates a service; what it shows need not hold for the real one.
        place: where it comes from: named by the environment, started from binaries of this machine, or in docker.
        host, port: where its clients connect; the port is 0 if it listens on a unix socket only.
        pid: of the leading process; None if it does not run or is not ours.
        ports: all its ports by their use, such as "management".
    """

    product: str
    version: str
    emulator: bool
    place: Literal["environment", "local", "docker"]
    host: str
    port: int
    pid: int | None
    ports: Mapping[str, int] = field(default_factory=dict)


class Server(ABC):
    """A real broker server or result store, private to whoever started it.

    As a context manager it is started at the entry, and killed and removed without a trace at the exit. Whatever happens to
    this process, kill -9 included, its servers are dead and their folders gone within seconds.

    A server stands on free ports of 127.0.0.1, which it keeps from its first start to `close`, so URLs stay valid over
    a restart. All times are in seconds. Not thread-safe: one thread drives a server; `url` may be called from any.

    Raises:
        ServerMissing: by `start`, if there is no such server here; the text says what to type.
        ServerFailed: by all methods, if it ends early, does not answer in time or is not in a state for this.
        NotOurs: by `pause`, `resume`, `kill9`, `restart` and `stop`, if the environment named the server.
    """

    product: ClassVar[str]
    emulator: ClassVar[bool] = False

    @abstractmethod
    def start(self, *, timeout: float = 60.0) -> Self:
        """Start it with what it stored before, if anything, and return it when it has answered a handshake."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers a handshake of its protocol now; takes at most about a second a step."""

    @abstractmethod
    def url(self) -> str:
        """The URL for brokerkit; the products have parameters of their own."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it (SIGSTOP), all its processes, and return when they stand still: connections stay, nothing answers."""

    @abstractmethod
    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""

    @abstractmethod
    def kill9(self) -> None:
        """Kill it (SIGKILL), all its processes, and return when they are gone. Its files stay for `start` or `restart`."""

    @abstractmethod
    def restart(self, *, keep_data: bool = True, timeout: float = 60.0) -> None:
        """Stop it if it runs, and start it again on the same ports; without `keep_data` as if for the first time."""

    @abstractmethod
    def stop(self, *, grace: float = 20.0) -> None:
        """Ask it to stop in an orderly way, and kill it after `grace` seconds. Its files stay for `start` or `restart`."""

    @abstractmethod
    def close(self) -> None:
        """Kill it, remove its files and give its ports back. May be called twice; afterwards it can be started anew."""

    @abstractmethod
    def logs(self) -> str:
        """What it wrote to its standard output and error since its first start; readable after `close` as well."""

    @abstractmethod
    def version(self) -> str:
        """The version, as it said itself in the last handshake; "" before the first."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What it is, where and in which version."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
