"""The codec: what it makes of payloads, what it refuses, and that nothing hostile gets through it."""

from __future__ import annotations

import bz2
import datetime as dt
import decimal
import gzip
import importlib.util
import json
import lzma
import math
import pickle
import subprocess
import sys
import tracemalloc
import uuid
import zlib

import kombu.compression
import kombu.serialization
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerkit.errors import DecodeError, EncodeError, InvalidOption
from brokerkit.serialization import Codec

JSON = {"content-type": "application/json"}

texts = st.text(st.characters())  # with surrogates and control characters
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20).filter(
    lambda value: "__type__" not in repr(value)
)


def round_trip(codec: Codec, payload: object) -> object:
    body, headers = codec.encode(payload)
    assert isinstance(body, bytes)
    assert all(isinstance(text, str) for pair in headers.items() for text in pair)
    return codec.decode(body, headers)


@given(documents)
def test_json_comes_back_equal(payload):
    assert round_trip(Codec(), payload) == payload


@given(documents)
def test_json_is_what_kombu_reads_and_what_kombu_writes_is_read(payload):
    body, _ = Codec().encode(payload)
    assert kombu.serialization.loads(body, "application/json", "utf-8", accept={"application/json"}) == payload
    theirs = kombu.serialization.dumps(payload, "json")[2].encode()
    assert Codec().decode(theirs, JSON) == payload


@settings(max_examples=30)
@given(documents, st.sampled_from(["gzip", "bzip2", "lzma"]))
def test_compressed_json_comes_back_equal(payload, compression):
    codec = Codec(compression=compression)
    body, headers = codec.encode(payload)
    assert headers["content-compression"] == kombu.compression.get_encoder(compression)[1]
    assert codec.decode(body, headers) == payload
    assert Codec().decode(body, headers) == payload, "compression needs no option to be read"


small = st.integers(-(2**63), 2**64 - 1)
plain_texts = st.text(st.characters(exclude_categories=["Cs"]))
packable = st.recursive(
    st.none() | st.booleans() | small | st.floats(allow_nan=False) | plain_texts | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(plain_texts, inner),
    max_leaves=20,
)


@given(packable)
def test_msgpack_comes_back_equal(payload):
    assert round_trip(Codec("msgpack"), payload) == payload


@settings(max_examples=30)
@given(documents.filter(lambda value: "\\ud" not in ascii(value)))
def test_yaml_comes_back_equal(payload):
    assert round_trip(Codec("yaml"), payload) == payload


@given(st.binary())
def test_bytes_travel_untouched_whatever_the_codec(payload):
    for codec in (Codec(), Codec("msgpack", "gzip")):
        body, headers = codec.encode(payload)
        assert body is payload
        assert dict(headers) == {}
        assert codec.decode(body, headers) is payload


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        dt.date(2026, 1, 2),
        dt.time(3, 4),
        decimal.Decimal("0.10"),
        uuid.UUID(int=7),
        b"text",
        b"\xff\x00",
    ],
)
def test_kombus_typed_values_come_back_in_their_type(value):
    body, headers = Codec().encode({"a": [value]})
    assert Codec().decode(body, headers) == {"a": [value]}
    assert kombu.serialization.loads(body, "application/json", "utf-8", accept={"application/json"}) == {"a": [value]}


def test_a_typed_value_is_found_even_if_its_mark_is_escaped():
    body = b'{"\\u005f_type__": "uuid", "__value\\u005F_": {"hex": "00000000000000000000000000000007"}}'
    assert Codec().decode(body, JSON) == uuid.UUID(int=7)


def test_falsy_payloads_stay_distinct():
    payloads = [None, False, 0, 0.0, "", [], {}, b""]
    assert [repr(round_trip(Codec(), p)) for p in payloads] == [repr(p) for p in payloads]


def test_a_plain_json_payload_does_not_import_kombu():
    program = (
        "import sys; from brokerkit.serialization import Codec; c = Codec(accept=('json', 'msgpack'));"
        "b, h = c.encode({'a': [1]}); assert c.decode(b, h) == {'a': [1]}; assert 'kombu' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


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


@pytest.mark.parametrize("raw", ["application/data", "application/octet-stream"])
def test_foreign_plain_bytes_stay_bytes(raw):
    assert Codec().decode(b"\x00", {"content-type": raw}) == b"\x00"


def test_content_type_with_a_parameter_is_understood():
    assert Codec().decode(b"[1]", {"content-type": "Application/JSON; charset=utf-8"}) == [1]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"content-type": "application/x-strange"}, "x-strange"),
        ({"content-type": "application/json", "content-encoding": "utf-99"}, "utf-99"),
        ({"content-type": "application/json", "content-encoding": "utf-16"}, "utf-16"),
        ({"content-type": "application/x-msgpack", "content-encoding": "utf-99"}, "utf-99"),
        ({"content-type": "application/json", "content-compression": "x-strange"}, "x-strange"),
    ],
)
def test_what_is_unknown_is_named(headers, named):
    with pytest.raises(DecodeError, match=named):
        Codec(accept=("json", "msgpack")).decode(b"[1]", headers)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "us-ascii"])
def test_encodings_within_utf8_are_read(encoding):
    assert Codec().decode(b"[1]", JSON | {"content-encoding": encoding}) == [1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"serializer": "jsno"}, "did you mean 'json'"),
        ({"accept": ("json", "msgpak")}, "did you mean 'msgpack'"),
        ({"accept": ("application/x-strange",)}, "application/x-strange"),
        ({"compression": "gzpi"}, "did you mean 'gzip'"),
        ({"serializer": "raw"}, "raw"),
    ],
)
def test_a_wrong_name_is_refused_at_once_with_the_nearest(options, text):
    with pytest.raises(InvalidOption, match=text):
        Codec(**options)


@pytest.mark.parametrize("name", ["msgpack", "yaml"])
def test_a_missing_library_is_named_with_what_to_install(monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == name else real(module))
    with pytest.raises(InvalidOption, match=rf"pip install 'brokerkit-messaging\[{name}\]'"):
        Codec(name)


def test_a_missing_compression_library_is_named(monkeypatch):
    monkeypatch.delitem(kombu.compression._aliases, "brotli", raising=False)
    with pytest.raises(InvalidOption, match="package brotli"):
        Codec(compression="brotli")


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


@pytest.fixture
def strange_compression():
    kombu.compression.register(lambda b: b[::-1], lambda b: b[::-1], "application/x-reverse", aliases=["reverse"])
    yield "reverse"
    for registry in (kombu.compression._encoders, kombu.compression._decoders):
        del registry["application/x-reverse"]
    del kombu.compression._aliases["reverse"]


def test_a_strangers_compression_is_unpacked_only_by_a_codec_that_uses_it(strange_compression):
    codec = Codec(compression=strange_compression, max_decoded=100)
    body, headers = codec.encode([1])
    assert codec.decode(body, headers) == [1]
    with pytest.raises(DecodeError, match="within a bound"):
        Codec().decode(body, headers)
    with pytest.raises(DecodeError, match="max_decoded=100"):
        codec.decode(b"x" * 101, headers)


@pytest.fixture
def strange_serializer():
    kombu.serialization.register(
        "hex", lambda o: o.hex(), lambda b: float.fromhex(bytes(b).decode()), "application/x-hex", "latin-1"
    )
    yield "hex"
    kombu.serialization.unregister("hex")


def test_any_serializer_of_kombus_registry_works_by_name(strange_serializer):
    codec = Codec(strange_serializer, accept=(strange_serializer,))
    body, headers = codec.encode(0.1)
    assert headers == {"content-type": "application/x-hex", "content-encoding": "latin-1"}
    assert codec.decode(body, headers) == 0.1
    with pytest.raises(EncodeError, match="hex"):
        codec.encode("text")


def test_a_codec_is_immutable_and_compares_by_its_options():
    with pytest.raises(AttributeError):
        Codec().serializer = "yaml"
    assert Codec() == Codec()
    assert Codec() != Codec("yaml")


def test_a_big_document_comes_back_equal():
    payload = {str(i): i for i in range(100_000)} | {"text": "é" * 1_000_000}
    assert round_trip(Codec(compression="gzip"), payload) == payload


def test_the_text_is_plain_ascii_json():
    body, headers = Codec().encode({"é": "\ud800"})
    assert json.loads(body.decode("ascii")) == {"é": "\ud800"}
    assert dict(headers) == JSON
