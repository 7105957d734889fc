"""Posts one message, as a script of its own that whoever started it can stop at any moment.

    python -IS webhook.py < {"url": …, "headers": {…}, "body": …, "direct": …}

It prints one JSON object: `status`, and `said` with the beginning of the answer; or `problem`. No redirect is
followed, as the address may be a secret and the message is for nobody else.
"""

import json
import sys
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

__all__ = ["post"]

WAIT_S = 5.0
"""For the connection, and for each part of an answer."""
MOST_BYTES = 2000
"""Of an answer."""


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def post(url: str, headers: dict[str, str], body: str, *, direct: bool) -> dict[str, object]:
    """Post `body` and return what came of it; `direct` is for no proxy."""
    opener = build_opener(_Stay, *([ProxyHandler({})] if direct else []))
    request = Request(url, body.encode(), headers, method="POST")  # noqa: S310 - http and https alone come here
    try:
        with opener.open(request, timeout=WAIT_S) as answer:
            return {"status": answer.status, "said": answer.read(MOST_BYTES).decode("utf-8", "replace")}
    except HTTPError as error:
        try:
            said = error.read(MOST_BYTES)
        except (OSError, HTTPException):
            said = b""
        return {"status": error.code, "said": said.decode("utf-8", "replace")}
    except OSError as error:
        why = error.reason if isinstance(error, URLError) else error
        return {"problem": f"no answer within {WAIT_S:g} s" if isinstance(why, TimeoutError) else str(why)}
    except (HTTPException, ValueError):
        return {"problem": "what it answered is no HTTP"}


if __name__ == "__main__":
    json.dump(post(**json.load(sys.stdin)), sys.stdout)
