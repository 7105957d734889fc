"""How programs write a value that they were given: what can be told from the value alone, and cheaply.

Encrypted, compressed, split or counted in other ways it is not found.
"""

import binascii
import json
import re
import shlex
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

__all__ = ["spellings"]

_LEAST_BYTES = 8
_ESCAPED_IN_URLS = re.compile("%[0-9A-F]{2}")


def spellings(value: str) -> frozenset[bytes]:
    """Return a value as it is, and in JSON, URLs, HTML, shells, Python, Base64 and hexadecimal digits."""
    raw = value.encode("utf-8", "surrogateescape" if _is_of_bytes(value) else "replace")
    texts = {*_in_json(value), *_in_urls(value), *_in_code(value)}
    written = {text.encode("utf-8", "replace") for text in texts}
    return frozenset({raw, *written, *_in_digits(raw)})


def _is_of_bytes(value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _in_json(value: str) -> Iterator[str]:
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        yield once.replace("/", "\\/")
        # Go, and whoever writes JSON into pages.
        escaped = once
        for letter in "&<>":
            escaped = escaped.replace(letter, f"\\u{ord(letter):04x}")
        yield escaped
        yield json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]


def _in_urls(value: str) -> Iterator[str]:
    ways = (
        *(quote(value, safe=safe, errors="replace") for safe in ("", "/", "!'()*~", "!'()*~/:@&=+$,;")),
        quote_plus(value, errors="replace"),
    )
    for written in ways:
        yield written
        yield _ESCAPED_IN_URLS.sub(lambda found: found.group().lower(), written)


def _in_code(value: str) -> Iterator[str]:
    # What `html` and `base64` do, which are slow to load.
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield escaped
    for double, single in (("&quot;", "&#x27;"), ("&#34;", "&#39;")):
        yield escaped.replace('"', double).replace("'", single)
    yield shlex.quote(value).removeprefix("'").removesuffix("'")
    yield value.replace("'", "'\\''")
    yield repr(value)[1:-1]
    yield value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")


def _in_digits(raw: bytes) -> Iterator[bytes]:
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before in range(3):
        # What stands before it shifts its bits; only digits that hold nothing else are its own.
        whole = binascii.b2a_base64(bytes(before) + raw, newline=False)
        own = whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(own) >= _LEAST_BYTES:
            yield own
            yield own.translate(bytes.maketrans(b"+/", b"-_"))
