"""What a plugin's author writes so that the suite can reach the engine."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

from brokerkit_conformance.model import HarnessError, NotRun

if TYPE_CHECKING:
    from brokerkit_conformance.faults import Proxy
    from brokerkit_conformance.storage import StorageMap

__all__ = ["GROUP", "Admin", "FullServer", "Harness", "MovableClock", "SecureServer", "ServerControl", "load"]

GROUP: Final = "brokerkit.conformance"


class MovableClock(Protocol):
    """A clock that the suite moves, such as `brokerkit.testing.ManualClock`."""

    def advance(self, seconds: float) -> None:
        """Move it, and wake everybody who waits on it."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def wait(self, condition: Any, timeout: float | None) -> bool:
        """Wait on a held condition."""
        ...


class Admin:
    """Foreign access to a server, around the plugin, with a client of its own.

    A key is whatever the server can lose by itself: a key, a row, an index. Keys are texts of parts, as
    `brokerkit_conformance.storage.key` writes them, so that a harness's storage map can tell what each is there for.
    """

    def keys(self) -> Collection[str]:
        """Return every key of the whole server, those of other virtual hosts and of nobody included."""
        raise NotImplementedError

    def remove(self, keys: Collection[str]) -> None:
        """Remove keys, and nothing else. Nobody is told."""
        raise NotImplementedError

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Put a message where the plugin looks for one, as a program would that is not of brokerkit."""
        raise NotImplementedError

    def put_damaged(self, queue: str) -> int:
        """Put messages of every kind that the storage takes and the plugin never writes; return how many. None may be whole."""
        raise NotImplementedError

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """Return ways to lose everything at once, by name: what a person may type at the server's own client."""
        raise NotImplementedError

    def forget_statements(self) -> None:
        """Make the server forget what clients have prepared on it, such as scripts; nothing, where they can prepare none."""
        raise NotRun("the harness's admin cannot make the server forget prepared statements")

    def close(self) -> None:
        """Close the client."""


class ServerControl(Protocol):
    """What kills and restarts one server, whose URLs stay the same; those of `brokerkit.servers` can all do it.

    Each method returns when what it says has happened: a started server answers.
    """

    def kill9(self) -> None:
        """Kill it (SIGKILL), all its processes. What it has on its disk stays."""
        ...

    def start(self) -> object:
        """Start a server that was killed or stopped, with what it has on its disk."""
        ...

    def restart(self) -> None:
        """Let it end in good order, and start it again."""
        ...

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay, and nothing answers."""
        ...

    def resume(self) -> None:
        """Let a frozen server go on."""
        ...


@dataclass(frozen=True, slots=True)
class FullServer:
    """A server whose room can be bounded.

    Attributes:
        url: of it.
        options: keywords for every `brokerkit.connect` to it.
        bound: called with True, it lets the server take no more room than it has; with False, as much as it likes.
    """

    url: str
    options: Mapping[str, Any]
    bound: Callable[[bool], object]


@dataclass(frozen=True, slots=True)
class SecureServer:
    """A server that speaks TLS, on this machine, and ways to it that must not be gone.

    Attributes:
        url: it works: the certificate is trusted, valid, and for the URL's host.
        untrusted: URLs that are to be refused, by the reason: "wrong authority", "wrong host", "expired".
        plain: a URL that asks for TLS where a server of the same kind speaks none; None if there is no such server.
        options: keywords for every `brokerkit.connect` to them.
    """

    url: str
    untrusted: Mapping[str, str]
    plain: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Harness:
    """How to reach one engine. Override what applies; what is not overridden makes its cases NOT_RUN, never passed.

    The order of things is the suite's, never the harness's. `urls` and `results_urls` are called once for each case:
    they may return the same URLs each time, as the suite keeps its cases apart by names of its own.
    """

    lease: float = 2.0
    """Seconds of the leases that cases wait for in real time: short for fast engines, never below what the engine takes."""

    server: str = ""
    """What runs, in words and with its version: "Redis 7.2.4". It stands in the report."""

    emulator: bool | None = None
    """Whether it only imitates the product; None if nobody told. Reports of emulators and of the real thing are kept apart."""

    def start(self) -> None:
        """Start what has to run. Called once, before anything else."""

    def stop(self) -> None:
        """Stop it, and remove what is left. Called once, after everything."""

    def urls(self) -> Sequence[str]:
        """Return broker URLs of one server: the first is tested, the second leads to another virtual host of it."""
        return ()

    def results_urls(self) -> Sequence[str]:
        """Return result store URLs of one server: the first is tested, the second is another application's."""
        return ()

    def options(self) -> Mapping[str, Any]:
        """Return keywords for every `brokerkit.connect`."""
        return {}

    def results_options(self) -> Mapping[str, Any]:
        """Return keywords for every `brokerkit.results`."""
        return {}

    def clock(self) -> MovableClock | None:
        """Return a new clock for one case, if the engine waits by the injected clock alone: time is moved then."""
        return None

    def prepare(self) -> tuple[str, str] | None:
        """Return ("module:function", argument), if it is to be called first in every process that the suite starts."""
        return None

    def admin(self, url: str, *, clock: Any = None) -> Admin | None:  # noqa: ARG002 - for those that override it
        """Return foreign access to the server of a URL, if there is any.

        Args:
            url: one that `urls`, `results_urls` or `private_urls` gave.
            clock: of the case, if `clock` gave one.
        """
        return None

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return `urls` and `results_urls` of one new server, which the case may break; empty if there can be none."""
        return (), ()

    def doomed_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return `private_urls` of a new server that the case will kill, freeze or restart by `server_control`.

        Override it where `private_urls` are cheap places on one server, which cannot be killed under other cases.
        """
        return self.private_urls()

    def wrong_credentials(self) -> Sequence[str]:
        """Return broker URLs of the server that it does not let in: by password, virtual host or the like; empty if none."""
        return ()

    def full_server(self) -> AbstractContextManager[FullServer] | None:
        """Return a new server whose room can be bounded, if there can be one."""
        return None

    def refusals(self) -> Mapping[str, AbstractContextManager[FullServer]]:
        """Return new servers that can be made to refuse every call for a while, `bound` does it, by the reason that they give.

        Reasons: "loading", it is about to start; "read only"; "full"; "throttled", it is asked too much.
        """
        return {}

    def tls(self) -> SecureServer | None:
        """Return a server that speaks TLS, and how it must not be reached, if there can be one; with a password, if possible."""
        return None

    def evicting_urls(self) -> tuple[str | None, str | None]:
        """Return a broker URL and a result store URL of a server that may drop what it stores; None where there is none."""
        return None, None

    def server_control(self, url: str) -> ServerControl | None:  # noqa: ARG002 - as above
        """Return what starts, kills and restarts the server of a URL, if anything can. An embedded engine has none.

        Args:
            url: one that `doomed_urls` gave.
        """
        return None

    def detour(self, url: str, proxies: Sequence[Proxy]) -> AbstractContextManager[str] | None:  # noqa: ARG002 - as above
        """Return what gives, as a context, another URL of the same server, by which clients go through the suite's proxies.

        None, as here, where it is enough to put a proxy in the place of the URL's one host and port. It is not where clients
        learn addresses from the server, such as those of a cluster's nodes. Then open in each proxy a door (`Proxy.door`) for
        every address that clients connect to. Several proxies are several ways to all of the server, of which clients take
        the first that works: name them in this order. Clients that use other URLs must go on as before.

        Args:
            url: one that `urls`, `results_urls` or `tls` gave. A certificate must be as right or wrong for the host as before.
            proxies: without doors; the suite closes them when the context has ended.
        """
        return None

    def server_settings(self) -> Mapping[str, str]:
        """Return how the server is set, as it says itself, without secrets: what a result may hang on, for the report."""
        return {}

    def storage_map(self) -> StorageMap | None:
        """Return which keys or rows play which role, for the cases of eviction. It must answer every role."""
        return None


def load(name: str) -> Harness:
    """Return a new harness from "module:Class", "path/to/file.py:Class", or an entry point in group `brokerkit.conformance`.

    Raises:
        HarnessError: there is none of that name, or it cannot be made; the text says what is known.
    """
    try:
        made: Harness = _find(name)()
    except Exception as error:
        raise HarnessError(f"the harness {name!r} cannot be made: {type(error).__name__}: {error}") from error
    return made


def _find(name: str) -> Any:
    if ":" in name:
        where, _, attribute = name.rpartition(":")
        return getattr(_module_at(Path(where)) if where.endswith(".py") else importlib.import_module(where), attribute)
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise HarnessError(f"no harness {name!r} is installed (installed: {listed}); or write module:Class")
    return known[name].load()


def _module_at(path: Path) -> ModuleType:
    """Import a file under a name of its own: every plugin may have a `harness.py`."""
    name = f"brokerkit_harness_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HarnessError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
