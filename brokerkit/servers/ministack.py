"""ministack, an emulator of Amazon SQS and SNS. It is no SQS: what it shows need not hold there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, final

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, NotReady, http_version
from brokerkit.servers._places import Local
from brokerkit.servers._single import Single
from brokerkit.servers.errors import ServerFailed

__all__ = ["Ministack"]

_VERSION: Final = "1.5.33"  # releases come often and differ; this one was probed


@final
class Ministack(Single):
    """One ministack with SQS and SNS. Boots in some 1.5 seconds.

    Known differences from SQS (version 1.5.33): deleting by the receipt of an earlier delivery is an error, where SQS answers
    200; a visibility timeout can be changed after it has passed; no limits on delay, timeout and names; never out of order,
    never a duplicate or an empty answer without cause; counts are exact; no throttling, no permissions.

    `stop` keeps the queues for `restart`. `kill9` loses what happened since the last orderly stop.
    """

    product = "ministack"
    emulator = True
    programs: ClassVar[Sequence[str]] = ("ministack",)
    folders: ClassVar[Sequence[str]] = (str(Path(sys.executable).parent),)
    packages = f"pip install ministack=={_VERSION}"
    default_port = 4566

    def url(self, *, account: str = "000000000000") -> str:
        """The URL for an account of 12 digits; each has queues and topics of its own. `endpoint` is what clients need."""
        if external := self._external():
            if account != "0" * 12:
                raise ServerFailed("the environment's URL is the only one of this server")
            return external.url
        return f"sqs://{account}:secret@127.0.0.1:{self._port('main')}"

    @property
    def endpoint(self) -> str:
        """Where AWS clients connect, as their `endpoint_url`."""
        self._local()
        return f"http://127.0.0.1:{self._port('main')}"

    def _prepare(self, local: Local) -> None:
        local.own_folder("data", None)

    def _command(self, local: Local) -> Command:
        environ = {
            "GATEWAY_PORT": str(self._port("main")),
            "BIND_HOST": "127.0.0.1",  # by default it listens to the world
            "MINISTACK_HOST": "127.0.0.1",
            "SERVICES": "sqs,sns",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "1",
            "STATE_DIR": f"{local.folder}/data",
        }
        return Command([self._program("ministack")], environ)

    def _greet(self, address: Address) -> str:
        try:
            answer = json.loads(http_version(address, "/_ministack/health"))
        except ValueError as error:
            raise NotReady(f"no JSON: {error}") from error
        return str(answer.get("version", ""))
