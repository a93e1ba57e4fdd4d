"""Where a server lives: in the environment's hands, as processes of this machine, or in a container."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn, final
from urllib.parse import parse_qs, unquote, urlsplit

from brokerkit.servers._groups import Command, Group, guarded_folder, remove_folder
from brokerkit.servers._handshakes import Address
from brokerkit.servers._programs import call
from brokerkit.servers.errors import NotOurs, ServerFailed

__all__ = ["Docker", "External", "Local", "Place"]

_TLS_SCHEMES: Final = frozenset({"rediss", "amqps", "https"})
_SOCKET_ROOM: Final = 80  # bytes of a folder's path that leave room for a socket's name: macOS allows 104 in all


class Place(ABC):
    """A server's life, as far as we hold it in our hands."""

    name: Literal["environment", "local", "docker"]

    @property
    def pid(self) -> int | None:
        """The process id of the running server's leader."""
        return None

    @abstractmethod
    def ended(self) -> str | None:
        """Why it does not run; None while it runs."""

    @abstractmethod
    def pause(self) -> None: ...

    @abstractmethod
    def resume(self) -> None: ...

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def stop(self, grace: float) -> None: ...

    @abstractmethod
    def logs(self) -> str: ...

    @abstractmethod
    def close(self) -> None: ...


@final
class External(Place):
    """A server that the environment named: it is there or it is not."""

    name = "environment"

    def __init__(self, variable: str, url: str) -> None:
        self.url = url
        self._variable = variable
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self.login = [unquote(word) for word in (parts.username, parts.password) if word]
        socket = parts.path if not parts.hostname else None
        self._address = (parts.hostname or "127.0.0.1", parts.port, socket)
        self._tls = parts.scheme in _TLS_SCHEMES
        self._ca = query.get("ssl_ca_certs", [None])[0]

    def address(self, port: int) -> Address:
        """Where it listens; at `port` if its URL does not say."""
        host, own_port, socket = self._address
        return Address(host, own_port or port, socket, tls=self._tls, ca=self._ca)

    def ended(self) -> str | None:
        return None

    def pause(self) -> NoReturn:
        self.refuse("pause")

    def resume(self) -> NoReturn:
        self.refuse("resume")

    def kill(self) -> NoReturn:
        self.refuse("kill")

    def stop(self, grace: float) -> NoReturn:  # noqa: ARG002 - it would be its first use
        self.refuse("stop")

    def refuse(self, what: str) -> NoReturn:
        """Say that this is not ours to do."""
        raise NotOurs(f"cannot {what} this server: {self._variable} names it, so it belongs to somebody else")

    def logs(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing of it is ours."""


@final
class Local(Place):
    """Processes of this machine, with a folder of their own under a short path. All of it is removed by `close`."""

    name = "local"

    def __init__(self) -> None:
        self.folder = _short_folder()
        guarded_folder(self.folder)
        self._group: Group | None = None
        self._companions: list[Group] = []
        self._log = self.folder / "log"
        self._log.touch()

    def own_folder(self, name: str, user: str | None) -> Path:
        """Make a folder anew and empty, which belongs to the user that the server runs as."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        self.give(path, user)
        return path

    def give(self, path: Path, user: str | None) -> None:
        """Let a file or folder belong to the user that the server runs as, if we are root."""
        if user is not None and os.getuid() == 0:
            account = pwd.getpwnam(user)
            os.chown(path, account.pw_uid, account.pw_gid)

    def launch(self, command: Command, companions: Sequence[Command]) -> None:
        """Start the server, and before it what it needs beside it and what outlives its crashes."""
        while len(self._companions) < len(companions):
            self._companions.append(Group(companions[len(self._companions)], self.folder, self._log))
        self._group = Group(command, self.folder, self._log)

    def run(self, command: Command, timeout: float = 60.0) -> None:
        """Run a command that prepares the server to its end.

        Raises:
            ServerFailed: it failed.
        """
        group = Group(command, self.folder, self._log)
        try:
            status = group.wait(timeout)
        finally:
            group.kill()
        if status != 0:
            raise ServerFailed(f"{command.words[0]} failed with status {status}:\n{tail(self.logs())}")

    @property
    def pid(self) -> int | None:
        return None if self._group is None or self._group.ended() is not None else self._group.pid

    def ended(self) -> str | None:
        if self._group is None:
            return "it is not running"
        status = self._group.ended()
        return None if status is None else f"it ended with status {status}"

    def pause(self) -> None:
        self._running().pause()

    def resume(self) -> None:
        self._running().resume()

    def kill(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.kill()

    def stop(self, grace: float) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.stop(grace)

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        self.kill()
        while self._companions:
            self._companions.pop().kill()
        remove_folder(self.folder)

    def _running(self) -> Group:
        if self._group is None or self._group.ended() is not None:
            raise ServerFailed(f"cannot do this to a server that does not run: {self.ended()}")
        return self._group


@final
class Docker(Place):
    """A container, with a fixed port on 127.0.0.1 so that a restart keeps the URL.

    Not tested: the machine this was written on has no docker daemon. Only the plain form of a server runs here, without
    TLS, sockets or users; and after a kill -9 of the test run its container stays: `docker rm -f` it by its label,
    brokerkit-test.
    """

    name = "docker"

    def __init__(
        self, image: str, port: int, image_port: int, arguments: Sequence[str], environ: Sequence[str]
    ) -> None:
        settings = [word for pair in environ for word in ("-e", pair)]
        publish = f"127.0.0.1:{port}:{image_port}"
        self._id = ""
        # No --rm: a killed container has to keep its files for the restart.
        self._run = ["run", "-d", "--label", "brokerkit-test", "-p", publish, *settings, image, *arguments]

    def launch(self) -> None:
        """Create the container, or start it again."""
        if self._id:
            _docker("start", self._id)
        else:
            self._id = _docker(*self._run)

    def ended(self) -> str | None:
        state = _docker("inspect", "-f", "{{.State.Status}}", self._id) if self._id else "not running"
        return None if state in {"running", "paused"} else f"its container is {state}"

    def pause(self) -> None:
        _docker("pause", self._id)

    def resume(self) -> None:
        _docker("unpause", self._id)

    def kill(self) -> None:
        if self.ended() is None:
            _docker("kill", "-s", "KILL", self._id)

    def stop(self, grace: float) -> None:
        _docker("stop", "-t", str(int(grace)), self._id)

    def logs(self) -> str:
        if not self._id:
            return ""
        shown = call(["docker", "logs", self._id])
        return shown.stdout + shown.stderr

    def close(self) -> None:
        container, self._id = self._id, ""
        if container:
            _docker("rm", "-f", "-v", container)


def tail(log: str, lines: int = 30) -> str:
    """The end of a log, for an error's text."""
    return "\n".join(log.splitlines()[-lines:])


def _docker(*words: str) -> str:
    ran = call(["docker", *words], timeout=300.0)
    if ran.returncode != 0:
        raise ServerFailed(f"docker {words[0]} failed: {ran.stderr.strip()}")
    return ran.stdout.strip()


def _short_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bk-"))
    if len(os.fsencode(folder)) > _SOCKET_ROOM:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="bk-", dir="/tmp"))
    folder.chmod(0o711)  # the server's own user has to pass through
    return folder
