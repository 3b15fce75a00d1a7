"""The payload and interceptor options of an app, and how an app is found."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from perdure import activity
from perdure.app import App, LargePayloads, app_of, apps_in
from perdure.codec.payloads import JsonPayloads
from perdure.codec.readable import Readable
from perdure.codec.wrapping import described_payload
from perdure.errors import Failure, PayloadError, UsageError, ValueUnavailable
from perdure.interceptor import Interceptor
from perdure.model.failure import FAILURE_BYTES, FailureInfo, size_of
from perdure.model.payloads import UNKNOWN
from perdure.registry import Registry


class Reversing:
    name = "reversing"

    def encode(self, data: bytes, /) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


class Keyed:
    """XOR with the key; a key that it lacks is a KeyError."""

    name = "keyed"

    def __init__(self, *keys: str) -> None:
        self.keys = [*keys]

    @property
    def key_id(self) -> str:
        return self.keys[-1]

    def encode(self, data: bytes, key_id: str, /) -> bytes:
        if key_id not in self.keys:
            raise KeyError(key_id)
        return bytes(byte ^ key_id.encode()[0] for byte in data)

    def decode(self, data: bytes, key_id: str, /) -> bytes:
        return self.encode(data, key_id)


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_down = False

    def put(self, key: str, data: bytes, /) -> None:
        if self.is_down:
            raise ConnectionError("the shelf is away")
        self.objects[key] = data

    def get(self, key: str, /) -> bytes:
        if self.is_down:
            raise ConnectionError("the shelf is away")
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]


class Declined(Failure):
    pass


@activity.defn(name="app_does_nothing")
def nothing() -> None: ...


def module(**names: Any) -> ModuleType:
    made = ModuleType("shop")
    vars(made).update(names)
    return made


# ---- where it is found


def test_a_module_may_define_an_app_or_the_same_by_attributes() -> None:
    codec, seen = Reversing(), Interceptor()
    whole = App(codec, [seen], "file:///tmp/shop")
    assert app_of(module(app=whole)) is whole
    assert app_of(module(settings=whole)) is whole
    by_attributes = app_of(module(codec=codec, interceptors=[seen], payloads="file:///tmp/shop"))
    assert by_attributes == App(codec, [seen], "file:///tmp/shop")
    assert app_of(module()) == App()


def test_a_module_that_was_imported_under_such_a_name_says_nothing() -> None:
    assert app_of(module(codec=sys, interceptors=sys)) == App()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"codec": "gzip"}, "shop: codec='gzip' is no codec"),
        ({"interceptors": [3]}, r"shop: interceptors=\[3\] must be a list"),
        ({"payloads": 3}, "shop: payloads=3 is no LargePayloads"),
        ({"one": App(Reversing()), "two": App(Reversing())}, "shop has 2 objects App; leave one"),
        ({"one": App(Reversing()), "codec": Reversing()}, "shop has an App and the attribute 'codec'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_module(names: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        app_of(module(**names))


def test_a_test_passes_over_attributes_that_mean_something_else() -> None:
    codec = Reversing()
    assert apps_in([module(codec="gzip", payloads=[1, 2], interceptors=None)]) == []
    assert apps_in([module(codec=codec), module(codec=codec), module()]) == [App(codec)]


def test_what_a_process_is_given_counts_more_than_what_the_app_says() -> None:
    own, given, mine = Reversing(), Keyed("k"), Interceptor()
    app = App(own, [mine])
    assert app.plus(None, ()) is app
    more = app.plus(given, [mine, other := Interceptor()])
    assert more.codec is given
    assert [*more.interceptors] == [mine, other]


def test_a_registry_has_the_app_that_it_is_made_with() -> None:
    app = App(Reversing())
    assert Registry.of([], [nothing], app=app).app is app


@pytest.mark.parametrize("name", ["", "a:b", "@store", "é", "x" * 256, "a\nb"])
def test_a_codec_must_have_a_name_that_can_be_written(name: str) -> None:
    codec = Reversing()
    codec.name = name
    with pytest.raises(UsageError, match="name of a payload codec"):
        JsonPayloads(codec)


@pytest.mark.parametrize("above_bytes", [0, 1023, 512 * 1024 + 1])
def test_a_threshold_has_bounds(above_bytes: int) -> None:
    with pytest.raises(UsageError, match="it must be from 1024 to 524288"):
        LargePayloads("file:///tmp/x", above_bytes=above_bytes)


def test_large_payloads_go_to_one_place() -> None:
    with pytest.raises(UsageError, match="a URL, or a store of your own"):
        LargePayloads()


# ---- codecs and keys


def test_a_codec_with_keys_reads_each_value_by_its_key() -> None:
    old = JsonPayloads(Keyed("k1")).encode("hello", UNKNOWN, what="it")
    assert old.startswith(b"\0keyed:k1\0")
    both = JsonPayloads(Keyed("k1", "k2"))
    new = both.encode("hello", UNKNOWN, what="it")
    assert new.startswith(b"\0keyed:k2\0")
    assert [both.decode(each, str, what="it") for each in (old, new)] == ["hello", "hello"]
    with pytest.raises(ValueUnavailable, match="the codec 'keyed' does not have the key 'k1' here"):
        JsonPayloads(Keyed("k2")).decode(old, str, what="it")


@pytest.mark.parametrize("codec", [None, Reversing()])
def test_without_its_codec_a_value_is_unavailable(codec: Reversing | None) -> None:
    payload = JsonPayloads(Keyed("k1")).encode("hello", UNKNOWN, what="it")
    with pytest.raises(ValueUnavailable, match="by the codec 'keyed' with the key 'k1'"):
        JsonPayloads(codec).decode(payload, str, what="it")


def test_a_codec_that_cannot_encode_says_so() -> None:
    codec = Keyed("k1")
    payloads = JsonPayloads(codec)
    codec.keys.clear()
    with pytest.raises(ValueUnavailable, match="the codec 'keyed' cannot encode it"):
        payloads.encode("hello", UNKNOWN, what="it")


# ---- failures


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        caught.add_note("note of 4111")
        return caught


@pytest.mark.parametrize("codec", [Reversing(), Keyed("k1")])
def test_only_the_codec_can_read_a_failure(codec: Any) -> None:
    payloads = JsonPayloads(codec)
    info = payloads.encode_failure(raised(Declined("card 4111")))
    shown = repr(info)
    assert "4111" not in shown
    assert "Declined" in info.type
    assert info.is_final
    restored = payloads.decode_failure(info)
    assert isinstance(restored, Declined)
    assert restored.args == ("card 4111",)
    assert "note of 4111" in str(getattr(restored, "__notes__", ""))
    with pytest.raises(ValueUnavailable):
        JsonPayloads().decode_failure(info)
    assert Readable(JsonPayloads()).failure(info) is info
    assert Readable(payloads).failure(info).message == "card 4111"


def test_a_group_shows_the_classes_of_its_members_only() -> None:
    payloads = JsonPayloads(Reversing())
    group = ExceptionGroup("of 4111", [ValueError("4111"), Declined("4111")])
    info = payloads.encode_failure(raised(group))
    assert "4111" not in repr(info)
    assert [each.type for each in info.exceptions or ()] == ["builtins:ValueError", f"{__name__}:Declined"]
    assert info.is_final
    restored: Any = payloads.decode_failure(info)
    assert [each.args for each in restored.exceptions] == [("4111",), ("4111",)]


def test_a_failure_stays_within_its_limit_as_the_codec_made_it() -> None:
    class Noise(Reversing):
        name = "noise"

        def encode(self, data: bytes, /) -> bytes:
            return data * 2

        def decode(self, data: bytes, /) -> bytes:
            return data[: len(data) // 2]

    payloads = JsonPayloads(Noise())
    text = "".join(f"{number:x}" for number in range(10_000))
    info = payloads.encode_failure(raised(ValueError(text)))
    assert size_of(info) <= FAILURE_BYTES
    assert str(payloads.decode_failure(info)).startswith(text[:500])


def test_what_says_that_a_value_is_unavailable_is_not_encoded() -> None:
    info = JsonPayloads(Reversing()).encode_failure(ValueUnavailable("the key 'k1' is missing"))
    assert info.message == "the key 'k1' is missing"


def test_a_codec_that_cannot_encode_a_failure_leaves_its_class() -> None:
    codec = Keyed("k1")
    payloads = JsonPayloads(codec)
    codec.keys.clear()
    info = payloads.encode_failure(raised(ValueError("4111")))
    assert info.type == "builtins:ValueError"
    assert "4111" not in repr(info)
    assert "cannot encode it" in info.message


# ---- large payloads


def large(shelf: Shelf, codec: Any = None) -> JsonPayloads:
    return JsonPayloads.of(App(codec, payloads=LargePayloads(store=shelf, above_bytes=1024)))


@pytest.mark.parametrize("codec", [None, Keyed("k1")])
def test_a_large_value_goes_to_the_store_and_the_payload_is_its_address(codec: Any) -> None:
    shelf = Shelf()
    payloads = large(shelf, codec)
    small, big = "x" * 100, "y" * 5_000
    assert payloads.decode(payloads.encode(small, UNKNOWN, what="it"), str, what="it") == small
    assert not shelf.objects
    payload = payloads.encode(big, UNKNOWN, what="it")
    assert len(payload) < 100
    assert payloads.decode(payload, str, what="it") == big
    assert payloads.encode(big, UNKNOWN, what="it") == payload
    (key,) = shelf.objects
    assert described_payload(payload) == {"object": key}
    if codec is not None:
        assert b"yyyy" not in shelf.objects[key]


def test_with_a_store_the_limit_is_another() -> None:
    payloads, text = large(Shelf()), "z" * 3_000_000
    assert payloads.decode(payloads.encode(text, UNKNOWN, what="it"), str, what="it") == text
    with pytest.raises(PayloadError, match="the limit is 67108864"):
        payloads.encode("z" * 70_000_000, UNKNOWN, what="it")
    with pytest.raises(PayloadError, match="the limit is 1048576"):
        payloads.encode_record(text, None, what="the record")


def test_a_missing_or_changed_object_makes_its_value_unavailable() -> None:
    shelf = Shelf()
    payloads = large(shelf)
    payload = payloads.encode("y" * 5_000, UNKNOWN, what="it")
    (key,) = shelf.objects
    kept = shelf.objects.pop(key)
    with pytest.raises(ValueUnavailable, match=f"the object {key} is not in the store"):
        payloads.decode(payload, str, what="it")
    shelf.objects[key] = b"something else"
    with pytest.raises(ValueUnavailable, match="was changed"):
        payloads.decode(payload, str, what="it")
    shelf.objects[key] = kept
    shelf.is_down = True
    with pytest.raises(ValueUnavailable, match=r"could not be read .* the shelf is away"):
        payloads.decode(payload, str, what="it")
    with pytest.raises(ValueUnavailable, match=r"could not be put .* the shelf is away"):
        payloads.encode("w" * 5_000, UNKNOWN, what="it")
    with pytest.raises(ValueUnavailable, match="none is configured here"):
        JsonPayloads().decode(payload, str, what="it")


def test_a_failure_never_goes_to_the_store() -> None:
    shelf = Shelf()
    large(shelf, Reversing()).encode_failure(raised(ValueError("".join(map(chr, range(200, 6_000))))))
    assert not shelf.objects


def test_what_cannot_be_read_here_is_left_as_it_is() -> None:
    payload = JsonPayloads(Keyed("k1")).encode("hello", UNKNOWN, what="it")
    assert Readable(JsonPayloads(Keyed("k2"))).payload(payload) is payload
    assert Readable(JsonPayloads(Keyed("k1"))).payload(payload) == b'"hello"'
    assert described_payload(payload)["key"] == "k1"


def test_a_plain_failure_is_opened_as_it_is() -> None:
    info = FailureInfo("builtins:ValueError", "x", cause=FailureInfo("builtins:KeyError", "y"))
    assert JsonPayloads(Reversing()).open_failure(info) is info
