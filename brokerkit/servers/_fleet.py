"""Several servers that are one: started, frozen, killed and restarted together, and reachable one by one."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit.servers._places import External
from brokerkit.servers._single import Single
from brokerkit.servers.errors import ServerFailed
from brokerkit.servers.server import Facts, Server

__all__ = ["Fleet"]


class Fleet(Server):
    """Servers that are one. `facts` are those of the first one; what happens to the fleet happens to all."""

    def __init__(self, parts: Sequence[Single]) -> None:
        self._parts = tuple(parts)
        self._version = ""

    def start(self, *, timeout: float = 60.0) -> Self:
        try:
            if self._external() is None:
                for part in self._parts:
                    part.start(timeout=timeout)
            self._until(self._together, timeout, "its nodes did not come together")
        except BaseException:
            self.close()
            raise
        return self

    def ready(self) -> bool:
        try:
            return self._together()
        except (OSError, ServerFailed):
            return False

    def pause(self) -> None:
        for part in self._ours("pause"):
            part.pause()

    def resume(self) -> None:
        for part in self._ours("resume"):
            part.resume()

    def kill9(self) -> None:
        for part in self._ours("kill"):
            part.kill9()

    def restart(self, *, keep_data: bool = True, timeout: float = 60.0) -> None:
        for part in self._ours("restart"):
            part.restart(keep_data=keep_data, timeout=timeout)
        self._until(self._together, timeout, "its nodes did not come together again")

    def stop(self, *, grace: float = 20.0) -> None:
        for part in self._ours("stop"):
            part.stop(grace=grace)

    def close(self) -> None:
        for part in reversed(self._parts):
            part.close()

    def logs(self) -> str:
        return "\n".join(f"--- {number}: {part.product}\n{part.logs()}" for number, part in enumerate(self._parts))

    def version(self) -> str:
        return self._version or self._parts[0].version()

    @property
    def facts(self) -> Facts:
        if external := self._external():
            address = external.address(self._parts[0].default_port)
            return Facts(self.product, self._version, self.emulator, "environment", address.host, address.port, None)
        return replace(self._parts[0].facts, product=self.product)

    # ------------------------------------------------------------------------------------------- what a product fills in

    @abstractmethod
    def _together(self) -> bool:
        """Whether the servers know each other and serve as one; brings them together where they do not do so alone."""

    # ---------------------------------------------------------------------------------------------------------- internals

    def _external(self) -> External | None:
        """The fleet that the environment named, by the first of its servers."""
        variable = f"BROKERKIT_TEST_{self.product.upper().replace('-', '_')}_URL"
        url = os.environ.get(variable)
        return External(variable, url.partition(";")[0]) if url else None

    def _ours(self, doing: str) -> Sequence[Single]:
        if external := self._external():
            external.refuse(doing)
        return self._parts

    def _until(self, together: Callable[[], bool], timeout: float, otherwise: str) -> None:
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        while True:
            why: object = ""
            try:
                if together():
                    return
            except (OSError, ServerFailed) as error:
                why = error
            if SYSTEM_CLOCK.monotonic() > deadline:
                raise ServerFailed(f"{self.product}: {otherwise} within {timeout:g} s {why}\n{self.logs()[-4000:]}")
            sleep(SYSTEM_CLOCK, 0.02)
