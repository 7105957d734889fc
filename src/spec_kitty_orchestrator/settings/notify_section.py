"""`[[notify]]`: the places where people are told of a run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from spec_kitty_orchestrator.core.run_events import Occasion
from spec_kitty_orchestrator.settings.values import Section, Text, Word, expandable, list_to_tuple

__all__ = ["LOOPBACK", "NotifySection", "apart", "check_url", "filled", "names", "secrets"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OF_URLS = ("format", "token", "allow_http")


def _occasions(value: tuple[Occasion, ...]) -> tuple[Occasion, ...]:
    if not value or len(set(value)) < len(value):
        raise ValueError("at least one occasion is needed, and none twice")
    return value


def _word_list(value: object) -> object:
    if isinstance(value, str):
        wanted = 'must be a list of words, as in ["notify-send", "mission"]; no shell splits a line'
        raise ValueError(wanted)  # noqa: TRY004 - pydantic reports values, not types
    return list_to_tuple(value)


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip():
        raise ValueError("its first word must be the program")
    expandable(words[0])
    return words


def _filled_in(value: str) -> str:
    """Let text pass whose `$` all stand for variables."""
    if "$" in _VARIABLE.sub("", value):
        raise ValueError("a variable is written ${NAME}")
    return value


def _only_a_variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError('must name a variable that holds it, as in "${NTFY_TOKEN}"')
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", value):
        raise ValueError("must be a short name of letters, digits, `.`, `_` and `-`")
    return value


class NotifySection(Section):
    """One place; exactly one of `command`, `url` and `bell` says which."""

    on: Annotated[tuple[Occasion, ...], BeforeValidator(list_to_tuple), AfterValidator(_occasions)] = (
        "needs_person",
        "ended",
    )
    """The occasions."""
    name: Annotated[str, AfterValidator(_name)] | None = None
    """What it is called, for people and in the journal; None for one after its kind."""
    command: Annotated[tuple[Word, ...], BeforeValidator(_word_list), AfterValidator(_program)] | None = None
    """A program and its words, which gets the message as JSON on its standard input."""
    url: Annotated[Text, AfterValidator(_filled_in)] | None = None
    """Where the message is posted; `${NAME}` is the value of a variable."""
    format: Literal["cloudevents", "slack", "ntfy"] = "cloudevents"
    """Of a `url`: how the message is written."""
    token: Annotated[Text, AfterValidator(_only_a_variable)] | None = None
    """Of a `url`: `"${NAME}"`, a variable with a token, which is sent as `Authorization: Bearer`."""
    allow_http: bool = False
    """Of a `url`: whether a message may go to another machine without TLS."""
    bell: bool = False
    """Whether the terminal rings."""

    @model_validator(mode="after")
    def _one_place(self) -> "NotifySection":
        if (self.command is not None) + (self.url is not None) + self.bell != 1:
            raise ValueError("needs exactly one of command, url and bell = true")
        if self.url is None and (given := [one for one in _OF_URLS if one in self.model_fields_set]):
            raise ValueError(f"{given[0]} is for a url")
        if self.url is not None and not _VARIABLE.search(self.url):
            check_url(self.url, allow_http=self.allow_http)
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that it names."""
        return tuple(dict.fromkeys(_VARIABLE.findall(f"{self.url or ''}{self.token or ''}")))


def check_url(url: str, *, allow_http: bool) -> None:
    """Raise `ValueError` unless messages may be posted there; what is said does not hold the address."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http") or re.search(r"[^!-~]", url):
        raise ValueError("must be an address that begins with https://, of plain ASCII without spaces")
    if "@" in parts.netloc:
        raise ValueError("holds a user or a password; name a variable with a token as `token`")
    if parts.scheme == "http" and not allow_http and host not in LOOPBACK:
        raise ValueError("http sends everything readable; use https, or say allow_http = true")


def filled(text: str, environ: Mapping[str, str]) -> str:
    """Put the values of variables into a text. Raises `ValueError` if one is not set."""

    def value(found: re.Match[str]) -> str:
        if not environ.get(found[1]):
            raise ValueError(f"the variable {found[1]} is not set")
        return environ[found[1]].strip()

    return _VARIABLE.sub(value, text)


def names(places: Sequence[NotifySection]) -> list[str]:
    """Return a name for each place: its own, else its kind, numbered from the second on."""
    found: list[str] = []
    for one in places:
        kind = one.name or ("bell" if one.bell else "command" if one.command else one.format)
        same = (kind, *(f"{kind}-{number}" for number in range(2, len(places) + 2)))
        found.append(next(name for name in same if name not in found))
    return found


def apart(places: tuple[NotifySection, ...]) -> tuple[NotifySection, ...]:
    """Let places pass of which no two have the same name. Raises `ValueError`."""
    given = [one.name for one in places if one.name]
    if twice := sorted({one for one in given if given.count(one) > 1}):
        raise ValueError(f"two places are named {twice[0]}")
    return places


def secrets(places: Sequence[NotifySection], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what must not be seen: addresses, and the values of variables in them and of tokens."""
    for one in places:
        yield from (environ[name].strip() for name in one.variables if name in environ)
        if one.url is not None:
            try:
                yield filled(one.url, environ)
            except ValueError:
                continue
