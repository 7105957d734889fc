"""Why a scheduler cannot be reached, in words: the client of `distributed` says little more than that."""

import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from distributed import Security

__all__ = ["obstacle"]

LIMIT_S = 5.0

_CERTIFICATE_REFUSED = ("UNKNOWN_CA", "CERTIFICATE_REQUIRED", "CERTIFICATE_EXPIRED", "BAD_CERTIFICATE")


def obstacle(address: str, tls: Security | None) -> str:
    """Say what is between us and a scheduler, "" if nothing is found. Takes seconds; not for the event loop.

    Args:
        address: `tcp://HOST:PORT` or `tls://HOST:PORT`.
        tls: as for the client; None without TLS.
    """
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 0
    try:
        with socket.create_connection((host, port), LIMIT_S) as plain:
            return _of_plain(plain) if tls is None else _of_tls(plain, tls)
    except socket.gaierror:
        return f"no address is known for the host {host}"
    except ConnectionRefusedError:
        return f"nothing listens at port {port} of {host}: is the scheduler started?"
    except TimeoutError:
        return f"{host} does not answer at port {port}: is the address right, and no firewall between?"
    except OSError as error:
        return error.strerror or str(error)


def _of_plain(plain: socket.socket) -> str:
    # A scheduler speaks first; one with TLS waits for us to begin.
    with suppress(TimeoutError):
        if plain.recv(1):
            return ""
    return "who listens there is no scheduler without TLS: is it tls://, or does it hang?"


def _of_tls(plain: socket.socket, tls: Security) -> str:
    context = tls.get_connection_args("client")["ssl_context"]
    try:
        with context.wrap_socket(plain) as secured:
            # That our certificate is refused is only told after the handshake.
            secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not of our authority (--tls-ca): {error.verify_message}"
    except ssl.SSLError as error:
        reason = _reason(error)
        if any(one in reason.replace(" ", "_").upper() for one in _CERTIFICATE_REFUSED):
            return (
                f"it refuses our certificate (--tls-cert), which is of another authority or expired: {reason}"
            )
        return f"it does not speak TLS as we do: {reason}"
    except TimeoutError:
        return "it does not speak TLS, is no scheduler, or hangs"
    return ""


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
