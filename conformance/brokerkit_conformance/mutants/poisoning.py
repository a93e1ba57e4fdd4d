"""Defects in what is too large, foreign or malformed, and in what a user sees of the engine's life."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any

from brokerkit import _dead_letters
from brokerkit._composing import Composer
from brokerkit._settling import Settling
from brokerkit.broker import Broker
from brokerkit.errors import DecodeError
from brokerkit.memory import MemoryServer
from brokerkit.serialization import Codec
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("POI-01", "POI-02", "POI-03", "POI-07", "POI-08", source="pipeshub 2992")
def undecodable_reaches_handlers(patch: Patch) -> None:
    """A body that cannot be decoded is handed over as it is."""

    def make(decode: Any) -> Any:
        def mutated(self: Any, body: bytes, headers: Any) -> Any:
            try:
                return decode(self, body, headers)
            except DecodeError:
                return body

        return mutated

    patch.wrap(Codec, "decode", make)


@mutant("POI-05", "POI-03", source="celery: pickle by default")
def every_type_is_accepted(patch: Patch) -> None:
    """What a message says that it is, is believed, and loaded."""
    patch.value(Codec, "_check_accepted", lambda *_: None)


@mutant("POI-06", source="LAWS 2")
def damage_goes_unseen(patch: Patch) -> None:
    """A record that the plugin found damaged is delivered."""

    def make(unfit: Any) -> Any:
        def mutated(self: Any, received: Any) -> Any:
            return None if "bk-malformed" in received.message.headers else unfit(self, received)

        return mutated

    patch.wrap(Settling, "unfit", make)


@mutant("POI-09", source="LAWS 2")
def forged_letters_believed(patch: Patch) -> None:
    """Headers of a dead letter that a message brings along are kept."""

    def make(letter_for: Any) -> Any:
        def mutated(received: Any, **given: Any) -> Any:
            letter = letter_for(received, **given)
            return replace(letter, headers={**letter.headers, **received.message.headers})

        return mutated

    patch.wrap(_dead_letters, "letter_for", make)


@mutant("BIG-02", "BIG-03", source="localstack 6420")
def any_size_goes(patch: Patch) -> None:
    """The size is left to the server, which takes it."""

    def make(init: Any) -> Any:
        def mutated(self: Any, codec: Any, capabilities: Any, clock: Any) -> None:
            init(self, codec, replace(capabilities, max_message=None), clock)

        return mutated

    patch.wrap(Composer, "__init__", make)


@mutant("BIG-04", source="LAWS 1.9: ten metadata keys")
def ten_headers(patch: Patch) -> None:
    """Only the first ten headers are kept."""

    def make(copy: Any) -> Any:
        return lambda self, message: copy(self, replace(message, headers=dict(list(message.headers.items())[:10])))

    patch.wrap(MemoryServer, "_copy", make)


@mutant("OBS-02", source="LAWS 2")
def noisy_sends(patch: Patch) -> None:
    """Each send is a warning in the log."""

    def make(send: Any) -> Any:
        def mutated(self: Any, address: Any, messages: Any) -> Any:
            logging.getLogger("brokerkit.memory").warning("sent %s", len(messages))
            return send(self, address, messages)

        return mutated

    patch.wrap(MemoryServer, "send", make)


@mutant("OBS-07", source="LAWS 2")
def the_hatch_stays_open(patch: Patch) -> None:
    """The plugin's own object can be had after close."""
    patch.value(Broker, "transport", property(lambda self: self._transport))


@mutant("CLN-04", source="kombu: bindings stay")
def deleted_queues_leave_bindings(patch: Patch) -> None:
    """The bindings of a deleted queue stay on the server."""

    def mutated(self: Any, address: Any) -> None:
        with contextlib.suppress(KeyError):
            del self.queues[address]
        self.condition.notify_all()

    patch.value(MemoryServer, "delete", mutated)
