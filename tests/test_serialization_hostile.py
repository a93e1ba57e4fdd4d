"""The codec: what cannot be encoded is refused, and nothing hostile gets through it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import pickle
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerkit.errors import DecodeError, EncodeError, InvalidOption
from brokerkit.serialization import Codec

JSON = {"content-type": "application/json"}


def round_trip(codec: Codec, payload: object) -> object:
    body, headers = codec.encode(payload)
    assert isinstance(body, bytes)
    assert all(isinstance(text, str) for pair in headers.items() for text in pair)
    return codec.decode(body, headers)


class Stubborn:
    def __json__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "payload",
    [math.nan, math.inf, [-math.inf], object(), {1, 2}, {("a",): 1}, 10**5000, Stubborn()],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_with_its_cause(payload):
    with pytest.raises(EncodeError, match="as json") as caught:
        Codec().encode({"a": payload})
    assert caught.value.__cause__ is not None
    assert not type(caught.value.__cause__).__module__.startswith("kombu")


def circle():
    payload: list[object] = []
    payload.append(payload)
    return payload


def tower(depth=100_000):
    payload: list[object] = []
    for _ in range(depth):
        payload = [payload]
    return payload


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_nesting_without_end_is_refused(serializer):
    with pytest.raises(EncodeError, match=serializer):
        Codec(serializer).encode(tower())


def test_a_circle_is_refused():
    with pytest.raises(EncodeError, match="Circular"):
        Codec().encode(circle())


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[" * 200_000, "application/json"),
        (b'{"a":' * 200_000, "application/json"),
        (b"\x91" * 200_000 + b"\x01", "application/x-msgpack"),
        (b"[" * 5_000, "application/x-yaml"),
    ],
)
def test_a_body_nested_without_end_is_refused(body, content_type):
    with pytest.raises(DecodeError, match=content_type):
        Codec(accept=("json", "msgpack", "yaml")).decode(body, {"content-type": content_type})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"1 2", "application/json"),
        (b"9" * 5000, "application/json"),
        (b'{"__type__": "no such", "__value__": 1}', "application/json"),
        (b"", "application/x-msgpack"),
        (b"\xc1", "application/x-msgpack"),
        (b"\xdd\xff\xff\xff\xff", "application/x-msgpack"),
        (b"\x01\x02", "application/x-msgpack"),
        (b"!!python/object/apply:os.getpid []", "application/x-yaml"),
        (b"a: [", "application/x-yaml"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(body, content_type):
    with pytest.raises(DecodeError, match=content_type):
        Codec(accept=("json", "msgpack", "yaml")).decode(body, {"content-type": content_type})


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-msgpack", "application/x-yaml"]))
def test_random_bytes_are_decoded_or_refused_and_nothing_else(body, content_type):
    try:
        Codec(accept=("json", "msgpack", "yaml")).decode(body, {"content-type": content_type})
    except DecodeError as error:
        if content_type not in str(error):
            raise


class Bomb:
    def __reduce__(self):
        return open, (self.path, "w")

    def __init__(self, path):
        self.path = str(path)


def test_pickle_is_never_loaded_unless_it_is_listed(tmp_path):
    canary = tmp_path / "canary"
    body = pickle.dumps(Bomb(canary))
    headers = {"content-type": "application/x-python-serialize"}
    for accept in (("json",), (), ("json", "msgpack", "yaml")):
        with pytest.raises(DecodeError, match=r"x-python-serialize.*not in 'accept'"):
            Codec(accept=accept).decode(body, headers)
    assert not canary.exists()
    Codec(accept=("json", "pickle")).decode(body, headers).close()
    assert canary.exists()


def test_pickle_as_serializer_must_also_be_accepted():
    with pytest.raises(InvalidOption, match=r"run code.*accept='json,pickle'"):
        Codec("pickle")
    assert round_trip(Codec("pickle", accept=("pickle",)), {1, 2}) == {1, 2}


def test_a_harmless_serializer_is_accepted_by_itself_but_no_other_is():
    body, headers = Codec("msgpack").encode([1])
    assert Codec("msgpack").decode(body, headers) == [1]
    with pytest.raises(DecodeError, match=r"x-msgpack.*accept"):
        Codec("json").decode(body, headers)
    with pytest.raises(DecodeError, match="accept"):
        Codec("yaml", accept=("application/x-yaml",)).decode(b"1", JSON)


def test_an_accepted_name_may_be_a_content_type():
    assert (
        Codec(accept=("application/x-msgpack", "text/plain")).decode(b"\x01", {"content-type": "application/x-msgpack"})
        == 1
    )
    assert Codec(accept=("text/plain",)).decode("é".encode(), {"content-type": "text/plain; charset=utf-8"}) == "é"


BOMBS = {"application/x-gzip": zlib.compress, "application/x-bz2": bz2.compress, "application/x-lzma": lzma.compress}


@pytest.mark.parametrize("name", BOMBS)
def test_a_zip_bomb_is_cut_off_at_the_limit(name):
    body = BOMBS[name](b'"' + b"0" * 1_000_000 + b'"')
    headers = JSON | {"content-compression": name}
    assert len(Codec(max_decoded=1_000_002).decode(body, headers)) == 1_000_000
    with pytest.raises(DecodeError, match="max_decoded=1000001"):
        Codec(max_decoded=1_000_001).decode(body, headers)


@pytest.mark.parametrize("name", BOMBS)
def test_a_zip_bomb_is_not_unpacked_first(name):
    body = BOMBS[name](bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="max_decoded=1000"):
            Codec(max_decoded=1000).decode(body, JSON | {"content-compression": name})
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_damaged_compressed_body_is_refused(name):
    body = BOMBS[name](b"[1, 2, 3]")
    headers = JSON | {"content-compression": name}
    for damaged in (body[:-3], body + b"rest", b"", b"garbage!"):
        with pytest.raises(DecodeError):
            Codec().decode(damaged, headers)


def test_real_gzip_is_read_as_well():
    assert Codec().decode(gzip.compress(b"[1]"), JSON | {"content-compression": "gzip"}) == [1]
