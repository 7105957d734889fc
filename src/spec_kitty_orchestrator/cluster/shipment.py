"""What both sides know of a workspace that travels: plain records, beside the bundle with the objects."""

from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["Applied", "Packed", "Shipment", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """What a worktree holds, as two commits.

    Attributes:
        head: sha of HEAD.
        commit: sha of a commit on `head` whose tree is everything there that is not ignored; `head` itself
            where nothing is uncommitted.
    """

    head: str
    commit: str


@dataclass(frozen=True)
class Shipment:
    """What a machine must know to make a workspace of the coordinator's.

    Attributes:
        project: names the repository on every machine.
        place: names the workspace there, the same for each attempt in it.
        sent: what it holds.
        branch: that is checked out in it, "" when detached.
        identity: name and e-mail address for commits that the agent makes.
        excludes: patterns of what is ignored, besides those in the workspace itself.
        shallow: the commits at which the history ends, in a shallow clone.
        sparse: patterns of the files that are checked out, "" for all.
        withheld: what of the workspace is not sent, each with the reason, for people.
    """

    project: str
    place: str
    sent: Snapshot
    branch: str = ""
    identity: tuple[str, ...] = ("", "")
    excludes: str = ""
    shallow: tuple[str, ...] = ()
    sparse: str = ""
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True)
class Packed:
    """What an attempt has made of a workspace, beside the bundle.

    Attributes:
        back: what is in it now.
        left: what a commit cannot hold, each with the reason, for people; it stays on the machine.
    """

    back: Snapshot
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """What became of work that came back.

    Attributes:
        kept: "" if it is in the workspace, else the ref under which it is.
        why: in that case the reason, for people.
        found: a ref with what was in files that were overwritten and were neither what was sent nor what came
            back, as after a crash; "" if there were none.
    """

    kept: str = ""
    why: str = ""
    found: str = ""
