"""`[cluster]`: how a Dask cluster is reached, and what it is told."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from spec_kitty_orchestrator.settings.values import NONE, Duration, Flag, Section, Written, expandable

__all__ = ["CLUSTER", "ClusterSettings", "Executor"]

CLUSTER = Flag("Cluster")

_ADDRESS = re.compile(r"(?:dask|tcp|tls)://(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):\d{1,5}")
_LOCAL = re.compile(r"local:([1-9]|[1-5]\d|6[0-4])")
_URL = re.compile(r"(?!-)[^\s\0]+")
_SECRET = re.compile(r"https?://[^/]*@|[^/]+://[^/@]*:[^/]*@", re.IGNORECASE)


def _or_nothing(value: object) -> object:
    return "" if value in (None, NONE) else value


def _executor(value: str) -> str:
    if value and not _ADDRESS.fullmatch(value) and not _LOCAL.fullmatch(value):
        raise ValueError(
            f"{value!r} is none: write dask://HOST:8786, tls://HOST:8786, local:4 for this machine, or {NONE}"
        )
    return value.replace("dask://", "tcp://", 1) if value.startswith("dask://") else value


def _file(value: str) -> str:
    return expandable(value) if value else value


def _source(value: str) -> str:
    if value and not _URL.fullmatch(value):
        raise ValueError(f"{value!r} is not an address that git could clone from")
    if _SECRET.match(value):
        raise ValueError(
            "an address with a password or a token would stand in journals and on each machine; "
            "leave it out, and give the machines' git a credential helper or a key"
        )
    return value


Executor = Annotated[str, BeforeValidator(_or_nothing), AfterValidator(_executor), Written("ADDRESS|local:N")]
File = Annotated[str, BeforeValidator(_or_nothing), AfterValidator(_file), Written("FILE")]


class ClusterSettings(Section):
    """`[cluster]`: how the cluster of `executor` is reached."""

    tls_ca: Annotated[File, Flag("Cluster", "--tls-ca")] = ""
    """The certificate of the authority that vouches for everybody in the cluster, for `tls://`.

    A path; a relative one starts at the repository.
    """
    tls_cert: Annotated[File, Flag("Cluster", "--tls-cert")] = ""
    """Our own certificate, for `tls://`."""
    tls_key: Annotated[File, Flag("Cluster", "--tls-key")] = ""
    """The key of our own certificate, for `tls://`; no confined agent or gate can read it."""
    insecure: Annotated[bool, Flag("Cluster", "--insecure-cluster")] = False
    """Allow connections without TLS to other machines.

    Whoever reaches the port of a scheduler without TLS runs programs as the user of each worker.
    """
    clone: Annotated[
        str,
        BeforeValidator(_or_nothing),
        AfterValidator(_source),
        Written("URL"),
        Flag("Cluster", "--clone-url"),
    ] = ""
    """Where a worker's machine gets the repository from the first time, with its own rights.

    Without this all of it comes from here. What has not been pushed always does.
    """
    lost_after: Annotated[Duration, Flag("Cluster", "--lost-after")] = 120.0
    """A machine that is silent for so long is lost with its attempts; they are tried elsewhere.

    The time in which the scheduler itself does not answer does not count.
    """
