"""PostgreSQL, durable as in production, with short lock waits."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, final

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, postgresql_version
from brokerkit.servers._places import Local
from brokerkit.servers._programs import call, find_binary
from brokerkit.servers._single import Single
from brokerkit.servers.errors import ServerFailed

__all__ = ["PostgreSQL"]

_USER: Final = "postgres"  # PostgreSQL refuses to run as root
_SETTINGS: Final = {"fsync": "on", "shared_buffers": "32MB", "deadlock_timeout": "200ms"}


@final
class PostgreSQL(Single):
    """One PostgreSQL cluster. The first start takes about a second, so share one and give each test its own database.

    What was committed survives `kill9`. Everybody on this machine may log in, as "postgres", without a password.

    Args:
        settings: further settings of the server, by name.
    """

    product = "postgresql"
    programs: ClassVar[Sequence[str]] = ("postgres", "initdb")
    packages = "sudo apt-get install -y --no-install-recommends postgresql"
    default_port = 5432
    image = "postgres:15"

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("custom" if settings else "")
        self._settings = _SETTINGS | dict(settings or {})

    def url(self, *, database: str = "postgres", driver: str = "") -> str:
        """The URL of a database, if wished for a driver of SQLAlchemy: "psycopg" gives postgresql+psycopg://…."""
        if external := self._external():
            if database != "postgres":
                raise ServerFailed("the environment's URL is the only one of this server")
            return external.url
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{_USER}@127.0.0.1:{self._port('main')}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL. The name is quoted, so it may be any."""
        quoted = name.replace('"', '""')
        self.execute(f'CREATE DATABASE "{quoted}"')
        return self.url(database=name)

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Run SQL by psql, and return its rows: a line each, columns separated by "|". For preparing and checking tests.

        Raises:
            ServerFailed: the statement failed; the text says why.
        """
        where = ["-h", "127.0.0.1", "-p", str(self._port("main")), "-U", _USER, "-d", database]
        words = [self._sibling("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, "-c", sql]
        self._local()
        ran = call(words)
        if ran.returncode != 0:
            raise ServerFailed(f"psql: {ran.stderr.strip()}")
        return ran.stdout.removesuffix("\n")

    def _prepare(self, local: Local) -> None:
        data = local.own_folder("data", _USER)
        local.own_folder("sockets", _USER)
        words = [self._sibling("initdb"), "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        local.run(Command(words, user=_USER))

    def _command(self, local: Local) -> Command:
        own = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port("main")),
            "unix_socket_directories": f"{local.folder}/sockets",
        }
        settings = [word for name, value in (self._settings | own).items() for word in ("-c", f"{name}={value}")]
        words = [self._sibling("postgres"), "-D", f"{local.folder}/data", *settings]
        # SIGINT is its fast shutdown; SIGTERM would wait for every client to leave
        return Command(words, user=_USER, stop=signal.SIGINT)

    def _greet(self, address: Address) -> str:
        return postgresql_version(address, _USER, "postgres")

    def _sibling(self, name: str) -> str:
        """A program of the same version as the server: beside it, where links lead."""
        server = Path(self._program("postgres")).resolve()
        return find_binary(name, str(server.parent)) or self._program(name)

    def _container(self) -> tuple[Sequence[str], Sequence[str]] | None:
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return (settings, ["POSTGRES_HOST_AUTH_METHOD=trust"])
