"""A session's settings as lines of text to edit, and back. Pure.

What each line may hold is in the rule book (`engine.settings.fields`), so a form says what a file would say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from engine.settings.fields import SESSION, value_of, with_value
from engine.settings.kinds import Key, Record, Typed
from engine.settings.values import SessionSettings


class Field(Struct, frozen=True):
    """One line of a form."""

    key: str
    """As in the file, dotted for a part: `keepalive.interval`."""
    label: str
    hint: str
    kind: Typed
    attribute: str | tuple[str, ...]
    secret: bool
    unique: bool

    def write(self, settings: SessionSettings) -> str:
        """The line's text; nothing for what is secret."""
        return "" if self.secret else self.kind.show(value_of(settings, self.attribute))

    def read(self, text: str, settings: SessionSettings) -> SessionSettings:
        """The settings with what the text means; raises ValueError with a text for the operator.

        A text that says what is set already changes nothing, so that what it doesn't show stays: the priority of a
        VLAN tag, a secret.
        """
        if text != self.write(settings) and not self.secret:
            text = text.strip()
        value = self.kind.parse(text)
        return settings if text == self.write(settings) else with_value(settings, self.attribute, value)


def _fields() -> Iterator[Field]:
    for name, key in SESSION.items():
        if isinstance(key.kind, Record):
            for part, inner in key.kind.keys.items():
                yield _field(f"{name}.{part}", f"{key.field}.{inner.field}", inner)
        elif key.label:
            yield _field(name, key.field, key)


def _field(name: str, attribute: str | tuple[str, ...], key: Key) -> Field:
    assert isinstance(key.kind, Typed), name
    return Field(name, key.label, key.hint, key.kind, attribute, key.secret, key.unique)


FIELDS = tuple(_fields())

Taken = Mapping[str, Collection[str]]
"""By key of a unique field, what other sessions have."""


def write(settings: SessionSettings) -> dict[str, str]:
    """The text of each field; the password never leaves."""
    return {field.key: field.write(settings) for field in FIELDS}


def read(texts: Mapping[str, str], base: SessionSettings, taken: Taken) -> tuple[SessionSettings, dict[str, str]]:
    """The settings that the texts mean, and what is wrong with each field that is wrong."""
    settings, errors = base, {}
    for field in FIELDS:
        try:
            settings = field.read(texts[field.key], settings)
            if field.unique and field.write(settings) in taken.get(field.key, ()):
                raise ValueError("is taken by another session")
        except ValueError as error:
            errors[field.key] = str(error)
    return settings, errors


def others(sessions: Collection[SessionSettings]) -> Taken:
    """What these sessions leave no other."""
    return {
        field.key: {text for settings in sessions if (text := field.write(settings))}
        for field in FIELDS
        if field.unique
    }


def differences(old: SessionSettings, new: SessionSettings) -> list[str]:
    """What changes from one to the other, a line each; never what is secret."""
    before, after = write(old), write(new)
    told = [
        f"{field.label} {before[field.key] or 'none'} → {after[field.key] or 'none'}"
        for field in FIELDS
        if before[field.key] != after[field.key]
    ]
    told += [
        f"another {field.label}"
        for field in FIELDS
        if field.secret and value_of(old, field.attribute) != value_of(new, field.attribute)
    ]
    return told or ["details that this form does not show"]
