"""What a plugin brings to be measured: its rivals and its goals.

The entry point group `brokerkit.benchmarks` holds a `Benchmark` under the name that `brokerkit bench NAME` takes. `kombu_peer`
and `result_cells` have rivals that most engines share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from brokerkit.errors import PluginBroken, UnknownScheme, nearest

__all__ = ["GROUP", "Benchmark", "Contender", "Extra", "Goal", "Threads", "extras_of", "find"]

GROUP: Final = "brokerkit.benchmarks"

Threads: TypeAlias = Literal["shared", "own", "no"]


class Contender(Protocol):
    """One way to move messages through an engine. Used by one thread, unless `threads` says more.

    Attributes:
        name: shown, and what goals refer to.
        threads: how many threads send at once: "shared", all use one contender; "own", each opens one; "no", not at all.
        note: what it does less than the others, for the report; may be empty.
    """

    name: str
    threads: Threads
    note: str

    def open(self, folder: Path) -> None:
        """Make the queue in a folder of this contender's own, unless it is there. Other processes may open it too."""
        ...

    def send(self, body: bytes) -> None:
        """Send one message; it is stored when this returns."""
        ...

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """Send one batch; it is stored when this returns."""
        ...

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """Consume and ack `count` messages that are there, holding at most `prefetch`; all acks are done on return.

        Returns:
            How many came, and the bytes of their bodies together.
        """
        ...

    def receive(self, timeout: float) -> bytes | None:
        """Receive one message as soon as it comes, ack it, and return its body; None if none came in time."""
        ...

    def depth(self) -> int:
        """Return how many messages wait or are held."""
        ...

    def purge(self) -> None:
        """Remove all messages."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal, of a cell at 1 KiB.

    Attributes:
        cell: its name, as in `cells`, or "latency", "deep", "import", or that of an `Extra`.
        mode: of the engine; None for all.
        versus: the contender that brokerkit is compared with; empty for a figure of its own.
        bound: "at least" or "at most".
        value: a ratio, or, without `versus`, the figure itself: seconds of latency, the ratio of deep to shallow, or how many
            clients of brokers `import brokerkit` loads.
    """

    cell: str
    mode: str | None
    versus: str
    bound: Literal["at least", "at most"]
    value: float


@dataclass(frozen=True, slots=True)
class Extra:
    """A cell that one engine has beside those of all.

    Attributes:
        name: what goals refer to.
        title: for people.
        unit: of its figures, for people.
        turn: measures all its contenders once, and returns their figures by name; brokerkit's own is "brokerkit". It is given
            a folder for all extra cells of the run, in the one that all contenders' folders are in.
    """

    name: str
    title: str
    unit: str
    turn: Callable[[Path], Mapping[str, float]]


class Benchmark(Protocol):
    """One engine's benchmark.

    Attributes:
        title: the engine's name, for people.
        modes: in the order of the report; the first is the default mode. A store of results alone has none: only its
            `extras` are measured.
        driver: the name of the contender that is the raw driver.
        peer: the name of the contender that does brokerkit's job.
        where: what the contenders ran on, to follow "all contenders ran": "on files of their own on one disk".
        goals: what brokerkit shall reach.
        modules: modules whose time to import is compared with brokerkit's.

    It may also have `extras`, a sequence of `Extra`.
    """

    title: str
    modes: Sequence[str]
    driver: str
    peer: str
    where: str
    goals: Sequence[Goal]
    modules: Sequence[str]

    def url(self, folder: Path, mode: str) -> str:
        """Return the URL with which brokerkit enters in this mode."""
        ...

    def rivals(self, mode: str) -> Sequence[Contender]:
        """Return new contenders for a mode. One that knows no modes is returned for each, and measured once."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Return what is measured, by name."""
        ...


def extras_of(benchmark: Benchmark) -> Sequence[Extra]:
    """Return the cells that only this engine has."""
    extras: Sequence[Extra] = getattr(benchmark, "extras", ())
    return extras


def find(name: str) -> Benchmark:
    """Return an installed benchmark.

    Raises:
        UnknownScheme: there is none of this name; the text lists the others.
        PluginBroken: it cannot be imported.
    """
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise UnknownScheme(f"no benchmark {name!r}{nearest(name, installed)} (installed: {known})")
    try:
        benchmark: Any = installed[name].load()
    except Exception as error:
        raise PluginBroken(f"the benchmark {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    found: Benchmark = benchmark
    return found
