"""What methods and measures share: names, needs, options, and packages that register themselves."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Generic, Protocol, SupportsIndex, TypeVar

from ttame.errors import InputError, unknown_name


class Entry(Protocol):
    """What is registered: a frozen dataclass round a function."""

    @property
    def name(self) -> str:
        """How it is called on the command line and in results."""

    @property
    def function(self) -> Callable[..., Any]:
        """What it does."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it cannot do without."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its settings with their values."""


EntryT = TypeVar("EntryT", bound=Entry)


class Registry(Generic[EntryT]):
    """Entries by name; every module of a package registers its own when it is imported.

    Args:
        kind: What an entry is called in messages.
        package: Name of the package whose modules hold entries.
        needs: All needs that an entry may have.

    Example:
        >>> from ttame.methods.registry import Method
        >>> controls = Registry[Method]("control", "ttame.methods", needs=())
        >>> controls.add(Method("grey", "Grey", lambda backbone, images, classes: images))
        >>> controls.get("grey").title
        'Grey'
    """

    def __init__(self, kind: str, package: str, needs: tuple[str, ...]) -> None:
        self.kind = kind
        self.package = package
        self.needs = needs
        self.entries: dict[str, EntryT] = {}

    def check_needs(self, needs: tuple[str, ...]) -> None:
        """Refuse needs that nobody knows.

        Raises:
            UnknownNameError: A need is unknown.
        """
        for need in needs:
            if need not in self.needs:
                raise unknown_name("need", need, self.needs)

    def add(self, entry: EntryT) -> None:
        """Register an entry; a module that is loaded again replaces its own.

        Raises:
            InputError: The name is taken.
        """
        known = self.entries.get(entry.name)
        if known is not None and known.function.__module__ != entry.function.__module__:
            raise InputError(
                f"a {self.kind} named {entry.name!r} exists already; choose another name"
            )
        self.entries[entry.name] = entry

    def all(self) -> dict[str, EntryT]:
        """Return every entry by name, in alphabetical order."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return dict(sorted(self.entries.items()))

    def get(self, name: str) -> EntryT:
        """Return an entry by name.

        Raises:
            UnknownNameError: There is no such entry.
        """
        known = self.all()
        if name not in known:
            raise unknown_name(self.kind, name, known)
        return known[name]


def reduced(entry: Any, protocol: SupportsIndex, lookup: Callable[[], Mapping[str, Any]]) -> Any:
    """Pickle a registered entry by name, with what was changed of it: it may hold lambdas.

    Args:
        entry: A dataclass; one that is not registered is pickled as it is.
        protocol: Of pickle.
        lookup: A function of a module that returns all registered entries by name.

    Returns:
        What ``__reduce_ex__`` of the entry shall return.
    """
    known = lookup().get(entry.name)
    if known is None or known.function is not entry.function:
        return object.__reduce_ex__(entry, protocol)
    values = {item.name: getattr(entry, item.name) for item in fields(entry)}
    changes = {name: value for name, value in values.items() if value is not getattr(known, name)}
    return _restored, (lookup, entry.function.__module__, entry.name, changes)


def _restored(
    lookup: Callable[[], Mapping[str, Any]], home: str, name: str, changes: Mapping[str, Any]
) -> Any:
    # One that was registered outside this package is registered by importing its module.
    importlib.import_module(home)
    return replace(lookup()[name], **changes)


def changed(entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's options with other values.

    Raises:
        UnknownNameError: It has no such option.
    """
    for name in values:
        if name not in entry.options:
            raise unknown_name(f"option of {entry.name}", name, entry.options)
    return {**entry.options, **values}
