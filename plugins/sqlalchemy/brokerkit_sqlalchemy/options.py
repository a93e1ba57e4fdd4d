"""Options of the SQL transport and result backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from brokerkit.errors import InvalidOption
from brokerkit.options import FanoutOptions, Options, setting

__all__ = ["DatabaseOptions", "SQLAlchemyResultOptions", "SQLAlchemyTransportOptions"]

_PREFIX: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}", re.ASCII)


@dataclass(frozen=True, kw_only=True, repr=False)
class DatabaseOptions(Options):
    """Options of everything that keeps tables in a database."""

    synchronous: Literal["FULL", "NORMAL"] = setting(
        "FULL",
        "When SQLite waits for the disk: FULL, at each commit, survives loss of power; NORMAL is several times faster for "
        "single sends, survives a killed process, and may lose the last commits when the power fails.",
    )
    virtual_host: str = setting("", "Queues, topics and results of one virtual host are invisible to the others.")
    table_prefix: str = setting(
        "bk_", "Begins the name of every table; two prefixes in one file know nothing of each other."
    )
    create_tables: bool = setting(True, "Create missing tables when connecting; false where only an administrator may.")
    engine_options: Mapping[str, Any] | None = setting(None, "Handed to sqlalchemy.create_engine as they are.")

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.table_prefix):
            raise InvalidOption(
                f"option 'table_prefix' is {self.table_prefix!r}; it must be a letter or '_', then letters, digits or '_', "
                "31 characters at most"
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class SQLAlchemyTransportOptions(DatabaseOptions, FanoutOptions):
    """Options of the SQL transport."""

    polling_interval: float = setting(
        0.012,
        "Seconds between two looks of an idle consumer at what other processes wrote, at most: how late a message is "
        "noticed across processes. Within one process there is no polling. Below 5 ms idle consumers cost CPU.",
        min=0.001,
        max=60,
    )

    def __post_init__(self) -> None:
        DatabaseOptions.__post_init__(self)
        FanoutOptions.__post_init__(self)


@dataclass(frozen=True, kw_only=True, repr=False)
class SQLAlchemyResultOptions(DatabaseOptions):
    """Options of the SQL result backend."""

    remember: float = setting(
        86_400.0,
        "Seconds that an expired record is remembered, so that its waiter is told 'expired' and not 'unknown'. It keeps "
        "its room in the file for so long.",
        min=0,
    )
