"""A server that is one program: what all products share. A product says what to run, and how it greets."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address
from brokerkit.servers._places import Docker, External, Local, Place, tail
from brokerkit.servers._ports import Ports
from brokerkit.servers._programs import docker_answers, find_binary
from brokerkit.servers.errors import ServerFailed, ServerMissing
from brokerkit.servers.server import Facts, Server

__all__ = ["Single"]

_POLL = 0.02  # s between handshakes while it boots


class Single(Server):
    """One program on one main port. Products fill in the class variables and the methods below `facts`.

    Attributes:
        programs: the binaries it needs, the main one first.
        packages: what to install, for the error.
        default_port: where the product listens by custom: in a container, and for an environment URL without a port.
        image: the docker image of its plain form; "" if there is none.
        folders: where its programs are looked for first.
        part_of_fleet: it comes from binaries of this machine and from nowhere else.
    """

    programs: ClassVar[Sequence[str]]
    packages: ClassVar[str]
    default_port: ClassVar[int]
    image: ClassVar[str] = ""
    folders: ClassVar[Sequence[str]] = ()
    part_of_fleet: ClassVar[bool] = False

    def __init__(self, *variant: str) -> None:
        self._variant = [word for word in variant if word]
        self._place: Place | None = None
        self._version = ""
        self._past_logs = ""
        self._held = Ports()
        self._ports: dict[str, int] = {}

    def installed(self) -> bool:
        """Whether its programs are on this machine."""
        return not self._absent()

    def start(self, *, timeout: float = 60.0) -> Self:
        if self._place is not None and not isinstance(self._place, External) and self._place.ended() is None:
            raise ServerFailed(f"{self.product} is running already")
        try:
            self._launch()
            self._wait_until_ready(timeout)
        except BaseException:
            self.close()
            raise
        return self

    def ready(self) -> bool:
        try:
            self._version = self._greet(self._address())
        except OSError:
            return False
        return self._here().ended() is None

    def pause(self) -> None:
        self._here().pause()

    def resume(self) -> None:
        self._here().resume()

    def kill9(self) -> None:
        self._here().kill()

    def restart(self, *, keep_data: bool = True, timeout: float = 60.0) -> None:
        place = self._here()
        if isinstance(place, External):
            place.refuse("restart")
        if place.ended() is None:
            self.stop()
        if not keep_data:
            self._forget(place)
        self.start(timeout=timeout)

    def stop(self, *, grace: float = 20.0) -> None:
        self._here().stop(grace)

    def close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            try:
                self._past_logs += place.logs()
            finally:
                place.close()
        self._held.release()
        self._ports.clear()

    def logs(self) -> str:
        return self._past_logs + (self._place.logs() if self._place is not None else "")

    def version(self) -> str:
        return self._version

    @property
    def facts(self) -> Facts:
        place, address = self._here(), self._address()
        port = 0 if address.unix else address.port
        return Facts(
            self.product, self._version, self.emulator, place.name, address.host, port, place.pid, dict(self._ports)
        )

    # ------------------------------------------------------------------------------------------- what a product fills in

    @abstractmethod
    def _prepare(self, local: Local) -> None:
        """Write the configuration and make an empty data folder, at the first start and when the data shall go."""

    @abstractmethod
    def _command(self, local: Local) -> Command:
        """What to run."""

    @abstractmethod
    def _greet(self, address: Address) -> str:
        """One handshake; answers the version, raises an OSError if the server is not ready."""

    def _companions(self, local: Local) -> Sequence[Command]:  # noqa: ARG002 - for those who have one
        """What has to run beside the server from before its first start until `close`."""
        return ()

    def _local_address(self) -> Address:
        """Where the server listens that we started."""
        return Address(port=self._port("main"))

    def _container(self) -> tuple[Sequence[str], Sequence[str]] | None:
        """Arguments and environment (NAME=value) for the image; None if this form needs binaries of this machine."""
        return None if self._variant or not self.image else ((), ())

    # ---------------------------------------------------------------------------------------------------- for products

    def _port(self, use: str) -> int:
        """The port for a use, taken when it is first asked for."""
        if use not in self._ports:
            self._ports[use] = self._held.take()
        return self._ports[use]

    def _program(self, name: str) -> str:
        """The path of a program of this product."""
        found = find_binary(name, *self.folders)
        if found is None:
            raise self._missing(f"{name} not on PATH or in the known folders")
        return found

    def _missing(self, looked: str) -> ServerMissing:
        return ServerMissing(self.product, f"{self._variable} not set, {looked}", f"Type: {self.packages}")

    def _external(self) -> External | None:
        """The server as the environment named it, if it did. Raises ServerFailed before `start` and after `close`."""
        place = self._here()
        return place if isinstance(place, External) else None

    def _local(self) -> Local:
        """The server's own folder and processes.

        Raises:
            ServerFailed: it runs elsewhere, and this power needs binaries of this machine.
        """
        if not isinstance(self._place, Local):
            raise ServerFailed(f"this works only for a {self.product} that was started from binaries of this machine")
        return self._place

    @property
    def folder(self) -> Path:
        """The server's own folder, gone after `close`; only of one started from binaries of this machine."""
        return self._local().folder

    # -------------------------------------------------------------------------------------------------------- internals

    @property
    def _variable(self) -> str:
        words = "_".join([self.product, *self._variant])
        return f"BROKERKIT_TEST_{words.upper().replace('-', '_')}_URL"

    def _here(self) -> Place:
        if self._place is None:
            raise ServerFailed(f"{self.product} was not started, or is closed")
        return self._place

    def _address(self) -> Address:
        place = self._here()
        return place.address(self.default_port) if isinstance(place, External) else self._local_address()

    def _launch(self) -> None:
        if self._place is None:
            self._place = self._choose()
            if isinstance(self._place, Local):
                self._prepare(self._place)
        if isinstance(self._place, Local):
            self._place.kill()  # what a crashed leader left behind
            self._place.launch(self._command(self._place), self._companions(self._place))
        elif isinstance(self._place, Docker):
            self._place.launch()

    def _choose(self) -> Place:
        url = os.environ.get(self._variable)
        if url and not self.part_of_fleet:
            return External(self._variable, url)
        if self.installed():
            return Local()
        container = self._container()
        if container is not None and not self.part_of_fleet and docker_answers():
            return Docker(self.image, self._port("main"), self.default_port, *container)
        docker = "no docker daemon answers" if self.image else "docker has none either"
        raise self._missing(f"{' and '.join(self._absent())} not on PATH or in the known folders, and {docker}")

    def _absent(self) -> list[str]:
        return [name for name in self.programs if find_binary(name, *self.folders) is None]

    def _forget(self, place: Place) -> None:
        if isinstance(place, Local):
            self._prepare(place)
        else:
            place.close()

    def _wait_until_ready(self, timeout: float) -> None:
        place, address = self._here(), self._address()
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        while True:
            why: object = "it does not answer"
            try:
                self._version = self._greet(address)
            except OSError as error:
                why = error
            if (ended := place.ended()) is not None:
                raise ServerFailed(f"{self.product} did not start: {ended}. Its log:\n{tail(place.logs())}")
            if not isinstance(why, OSError):
                return
            if SYSTEM_CLOCK.monotonic() > deadline:
                text = f"{self.product} was not ready after {timeout:g} s: {why}. Its log:\n{tail(place.logs())}"
                raise ServerFailed(text)
            sleep(SYSTEM_CLOCK, _POLL)
