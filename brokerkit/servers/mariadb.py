"""MariaDB, durable as in production, with short lock waits. MySQL itself is not promised: it was never tried."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, final

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, mysql_version
from brokerkit.servers._places import Local
from brokerkit.servers._programs import call
from brokerkit.servers._single import Single
from brokerkit.servers.errors import ServerFailed

__all__ = ["MariaDB"]

_USER: Final = "mysql"
_SETTINGS: Final = {
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "16M",
    "innodb-lock-wait-timeout": "2",
    "performance-schema": "off",
    "max-connect-errors": "1000000000",  # readiness checks hang up after the greeting, which counts as an error
}


@final
class MariaDB(Single):
    """One MariaDB. The first start takes about two seconds, so share one and give each test its own database.

    What was committed survives `kill9`. Everybody on this machine may log in, as "root", without a password.

    Args:
        settings: further settings of the server, by name.
    """

    product = "mariadb"
    programs: ClassVar[Sequence[str]] = ("mariadbd", "mariadb-install-db")
    packages = "sudo apt-get install -y --no-install-recommends mariadb-server"
    default_port = 3306
    image = "mariadb:10.11"

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("custom" if settings else "")
        self._settings = _SETTINGS | dict(settings or {})

    def url(self, *, database: str = "brokerkit", driver: str = "") -> str:
        """The URL of a database, if wished for a driver of SQLAlchemy: "pymysql" gives mariadb+pymysql://…."""
        if external := self._external():
            if database != "brokerkit":
                raise ServerFailed("the environment's URL is the only one of this server")
            return external.url
        scheme = f"mariadb+{driver}" if driver else "mariadb"
        return f"{scheme}://root@127.0.0.1:{self._port('main')}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL. The name is quoted, so it may be any."""
        quoted = name.replace("`", "``")
        self.execute(f"CREATE DATABASE `{quoted}`")
        return self.url(database=name)

    def execute(self, sql: str, *, database: str = "brokerkit") -> str:
        """Run SQL by the program mariadb, and return its rows: a line each, columns separated by tabs.

        Raises:
            ServerFailed: the statement failed; the text says why.
        """
        where = ["-h", "127.0.0.1", "-P", str(self._port("main")), "-u", "root", "-D", database]
        self._local()
        words = [self._program("mariadb"), "--no-defaults", "--protocol=tcp", "-N", "-B", *where, "-e", sql]
        ran = call(words)
        if ran.returncode != 0:
            raise ServerFailed(f"mariadb: {ran.stderr.strip()}")
        return ran.stdout.removesuffix("\n")

    def _prepare(self, local: Local) -> None:
        data = local.own_folder("data", _USER)
        init = local.folder / "init.sql"
        init.write_text("CREATE DATABASE IF NOT EXISTS brokerkit CHARACTER SET utf8mb4;\n")
        init.chmod(0o644)
        access = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        words = [self._program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", *access, *self._run_as()]
        local.run(Command(words))

    def _command(self, local: Local) -> Command:
        # It changes to its own user after it has opened the files that need root.
        words = [self._program("mariadbd"), "--no-defaults", f"--datadir={local.folder}/data", *self._run_as()]
        words += [f"--port={self._port('main')}", "--bind-address=127.0.0.1", f"--socket={local.folder}/data/s.sock"]
        words += ["--skip-log-bin", "--skip-name-resolve", f"--init-file={local.folder}/init.sql"]
        return Command([*words, *(f"--{name}={value}" for name, value in self._settings.items())])

    def _greet(self, address: Address) -> str:
        return mysql_version(address)

    def _run_as(self) -> list[str]:
        return [f"--user={_USER}"] if os.getuid() == 0 else []

    def _container(self) -> tuple[Sequence[str], Sequence[str]] | None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        return (settings, ["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1", "MARIADB_DATABASE=brokerkit"])
