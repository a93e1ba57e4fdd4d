"""Defects in what is told when an answer is lost: success that nobody knows of, errors with other names, repeats that differ."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

from brokerkit import _retry, _sending, broker
from brokerkit.errors import AccessDenied, ConnectionLost, NotConnected, StorageBroken, StorageFull, Throttled
from brokerkit.models import new_id
from brokerkit_conformance.mutants import wire
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.remote import RemoteReceiver, RemoteResults, RemoteTransport
from brokerkit_conformance.mutants.served import NetworkedHarness

_STORING: Final = {"send": 1, "publish": 1, "put": 0}


def _swallowing(patch: Patch, kind: Any, *names: str) -> None:
    """Let calls whose connection is lost return as if they had been done."""

    def make(name: str) -> Any:
        def making(call: Any) -> Any:
            def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
                try:
                    return call(self, *args, **kwargs)
                except ConnectionLost:
                    return [None] * len(args[_STORING[name]]) if name in _STORING else []

            return mutated

        return making

    for name in names:
        patch.wrap(kind, name, make(name))


@mutant("FLT-18", "FLT-08", source="kombu: a publish into a dead channel", harness=NetworkedHarness)
def lost_sends_are_done(patch: Patch) -> None:
    """A send whose connection breaks returns as if the message was stored."""
    _swallowing(patch, RemoteTransport, "send", "publish")


@mutant("RES-23", source="LAWS 2", harness=NetworkedHarness)
def lost_results_are_stored(patch: Patch) -> None:
    """A result that could not be stored is said to be."""
    _swallowing(patch, RemoteResults, "put")


@mutant("FLT-09", source="LAWS 2", harness=NetworkedHarness)
def lost_acks_are_done(patch: Patch) -> None:
    """An ack whose connection breaks returns as if the message was settled."""
    _swallowing(patch, RemoteReceiver, "ack")


@mutant("FLT-09", source="LAWS 2", harness=NetworkedHarness)
def lost_extensions_are_done(patch: Patch) -> None:
    """An extension whose connection breaks returns as if the lease was longer."""
    _swallowing(patch, RemoteReceiver, "extend")


@mutant("FLT-08", "ORD-06", source="LAWS 2", harness=NetworkedHarness)
def repeats_are_other_messages(patch: Patch) -> None:
    """A send that is repeated gives its messages new ids."""
    tried: set[str] = set()

    def make(attempt: Any) -> Any:
        def mutated(self: Any, doing: str, batch: Any, *args: Any) -> Any:
            again = [replace(m, id=new_id(m.sent_at)) if m.id in tried else m for m in batch]
            tried.update(message.id for message in batch)
            return attempt(self, doing, again, *args)

        return mutated

    patch.wrap(_sending.Sender, "_try", make)


@mutant("FLT-11", "OBS-01", source="LAWS 2", harness=NetworkedHarness)
def garbage_is_fatal(patch: Patch) -> None:
    """An answer that cannot be read is an error of its own, after which nobody tries again."""

    def make(read: Any) -> Any:
        def mutated(*args: Any) -> Any:
            try:
                return read(*args)
            except wire.Garbage as error:
                raise ValueError(str(error)) from error

        return mutated

    patch.wrap(wire, "read_frame", make)


@mutant("FLT-01", "FLT-02", source="celery 9997, 10484", harness=NetworkedHarness)
def passwords_in_errors(patch: Patch) -> None:
    """The error of a connection that could not be made shows the password."""
    patch.value(broker, "masker", lambda _: str)

    def make(init: Any) -> Any:
        def mutated(self: Any, address: Any, hello: Any, *args: Any) -> None:
            try:
                init(self, address, hello, *args)
            except (NotConnected, AccessDenied) as error:
                raise type(error)(f"{error}, as {hello.user}") from None

        return mutated

    patch.wrap(wire.Line, "__init__", make)


@mutant("FLT-02", source="LAWS 2", harness=NetworkedHarness)
def refused_is_away(patch: Patch) -> None:
    """A server that does not let us in counts as one that is away, and is tried again and again."""

    def make(init: Any) -> Any:
        def mutated(self: Any, *args: Any) -> None:
            try:
                init(self, *args)
            except AccessDenied as error:
                raise NotConnected(str(error)) from None

        return mutated

    patch.wrap(wire.Line, "__init__", make)


@mutant("FLT-17", source="LAWS 2", harness=NetworkedHarness)
def all_at_the_same_moment(patch: Patch) -> None:
    """The pauses between repeats have no jitter: all clients come back at once."""
    patch.value(_retry, "random", SimpleNamespace(uniform=lambda _, most: most))


@mutant("FLT-17", source="LAWS 2", harness=NetworkedHarness)
def repeats_are_not_counted(patch: Patch) -> None:
    """A call is repeated until its deadline, however few repeats were asked for."""

    def make(init: Any) -> Any:
        return lambda self, policy, *args: init(self, replace(policy, max_retries=None), *args)

    patch.wrap(_retry.Pauses, "__init__", make)


@mutant("FLT-16", source="go-cloud: one code for all", harness=NetworkedHarness)
def all_refusals_are_alike(patch: Patch) -> None:
    """Whatever the server refuses for comes as an error that nobody knows."""

    def make(call: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return call(self, *args, **kwargs)
            except (Throttled, StorageFull, StorageBroken) as error:
                raise RuntimeError(str(error)) from None

        return mutated

    patch.wrap(wire.Lines, "call", make)
