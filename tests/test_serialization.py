"""The codec: what it makes of payloads, and which names, types and encodings it knows."""

from __future__ import annotations

import datetime as dt
import decimal
import importlib.util
import json
import subprocess
import sys
import uuid

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
