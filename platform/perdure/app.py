"""The app: what every process of it needs besides workflows and activities.

    from perdure.app import App, LargePayloads

    app = App(codec=Aes(keys), interceptors=[Audit()], payloads=LargePayloads("s3://shop-payloads"))

The module that the command line loads says it, as an attribute that is an `App`, or as attributes
`codec`, `interceptors` and `payloads`. Every process that is started with the module uses it:
engine, worker, dev, API, ingest, projector, `perdure check`, the clients of `perdure workflow`, and
the test environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final, cast

from perdure.errors import UsageError
from perdure.interceptor import Interceptor
from perdure.model.payloads import AnyCodec, ObjectStore

KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class LargePayloads:
    """A store of payloads that are too large for a history.

    Args:
        url: a directory, as fsspec writes it: `file:///var/lib/shop`, `s3://bucket/shop`. Needs
            `pip install 'perdure[payloads]'`, and fsspec's module for the scheme (`s3fs`).
        above_bytes: what is larger goes there; from 1 KiB to 512 KiB.
        options: of fsspec's file system: `endpoint_url`, credentials.
        store: an object with `put` and `get` of your own, instead of a URL.
    """

    url: str = ""
    above_bytes: int = 64 * KIB
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    store: ObjectStore | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == (self.store is not None):
            raise UsageError("LargePayloads takes a URL, or a store of your own")
        if not KIB <= self.above_bytes <= 512 * KIB:
            raise UsageError(f"above_bytes is {self.above_bytes}; it must be from {KIB} to {512 * KIB}")

    def opened(self) -> ObjectStore:
        """The store.

        Raises:
            UsageError: fsspec, or its module for the URL, is not installed.
        """
        if self.store is not None:
            return self.store
        try:
            # by name: adapters stand above this module
            kind = import_module("perdure.adapters.objects.store").FsspecStore
        except ModuleNotFoundError as error:
            raise UsageError(
                f"large payloads need the module {error.name}: pip install 'perdure[payloads]'"
            ) from None
        opened: ObjectStore = kind(self.url, self.options)
        return opened


def is_codec(value: Any) -> bool:
    """Whether something can be a payload codec."""
    return (
        not isinstance(value, type | ModuleType)
        and isinstance(getattr(value, "name", None), str)
        and callable(getattr(value, "encode", None))
        and callable(getattr(value, "decode", None))
    )


def are_interceptors(values: Any) -> bool:
    """Whether something is a list of interceptors."""
    return isinstance(values, list | tuple) and all(
        isinstance(each, Interceptor) for each in cast("Sequence[object]", values)
    )


@dataclass(frozen=True, slots=True)
class App:
    """Codec, interceptors and store of an app, for all its processes.

    Args:
        codec: encrypts or compresses payloads; see `perdure.model.payloads.PayloadCodec` and
            `KeyedCodec`.
        interceptors: around requests, commands, workflow code and attempts, outermost first.
        payloads: where large payloads go; a URL stands for `LargePayloads(url)`.

    Raises:
        UsageError: one of them is something else.
    """

    codec: AnyCodec | None = None
    interceptors: Sequence[Interceptor] = ()
    payloads: LargePayloads | str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and not is_codec(self.codec):
            raise UsageError(
                f"codec={self.codec!r} is no codec: it must have a `name`, `encode` and `decode`"
            )
        if not are_interceptors(self.interceptors):
            raise UsageError(
                f"interceptors={self.interceptors!r} must be a list of perdure.interceptor.Interceptor"
            )
        if not isinstance(self.payloads, LargePayloads | str | None):
            raise UsageError(f"payloads={self.payloads!r} is no LargePayloads and no URL")

    @property
    def large(self) -> LargePayloads | None:
        """The store of large payloads."""
        return LargePayloads(self.payloads) if isinstance(self.payloads, str) else self.payloads

    def plus(self, codec: AnyCodec | None, interceptors: Sequence[Interceptor]) -> App:
        """With this codec instead of its own, if one is given, and these interceptors inside its
        own.
        """
        if codec is None and not interceptors:
            return self
        own = tuple(self.interceptors)
        new = tuple(each for each in interceptors if not any(each is known for known in own))
        return App(codec or self.codec, (*own, *new), self.payloads)


NO_APP: Final = App()


def app_of(module: ModuleType) -> App:
    """The app of a module.

    Raises:
        UsageError: it says it twice, or something that does not fit.
    """
    names = vars(module)
    found = distinct(value for value in names.values() if isinstance(value, App))
    if len(found) > 1:
        raise UsageError(f"{module.__name__} has {len(found)} objects App; leave one")
    said = {name: names[name] for name in ("codec", "interceptors", "payloads") if _is_said(names.get(name))}
    if not said:
        return found[0] if found else NO_APP
    if found:
        raise UsageError(
            f"{module.__name__} has an App and the attribute {next(iter(said))!r}; put it into the App"
        )
    try:
        return App(**said)
    except UsageError as error:
        raise UsageError(f"{module.__name__}: {error}; or rename the attribute") from None


def apps_in(modules: Iterable[ModuleType]) -> list[App]:
    """The apps of these modules, for a test: each `App`, or attributes that fit; others are passed
    over.
    """
    found: list[App] = []
    for module in modules:
        names = vars(module)
        apps = distinct(value for value in names.values() if isinstance(value, App))
        codec, interceptors, payloads = (names.get(name) for name in ("codec", "interceptors", "payloads"))
        said: dict[str, Any] = {}
        if is_codec(codec):
            said["codec"] = codec
        if interceptors and are_interceptors(interceptors):
            said["interceptors"] = interceptors
        if isinstance(payloads, LargePayloads):
            said["payloads"] = payloads
        found += apps or ([App(**said)] if said else [])
    return distinct(found)


def distinct(apps: Iterable[App]) -> list[App]:
    """Each object once; of two that say the same, the first."""
    found: list[App] = []
    for each in apps:
        if not any(_same(each, known) for known in found):
            found.append(each)
    return found


def _same(one: App, other: App) -> bool:
    return (
        one.codec is other.codec
        and len(one.interceptors) == len(other.interceptors)
        and all(a is b for a, b in zip(one.interceptors, other.interceptors, strict=True))
        and one.payloads == other.payloads
    )


def _is_said(value: object) -> bool:
    return value is not None and not isinstance(value, ModuleType) and value != ()
