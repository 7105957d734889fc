"""The environment of a child: what everybody needs, what its own CLI reads, what a person lets through.

Everything else stays with us: keys of other vendors and of clouds are none of an agent's business, and
whatever it can read it can also print.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.machine.redaction import is_secret_name

__all__ = [
    "GIT_REDIRECTS",
    "absolute_folders",
    "environment",
    "keep_out",
    "named",
    "search_path",
    "without_git",
]

EVERYBODY = tuple(
    """
    PATH HOME USER LOGNAME SHELL HOSTNAME TZ TMPDIR TMP TEMP CI XDG_* SPEC_KITTY_*
    LANG LANGUAGE LC_* TERM TERMINFO COLORTERM NO_COLOR FORCE_COLOR EDITOR VISUAL PAGER
    DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS SSH_AUTH_SOCK GPG_TTY
    http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY
    SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO
    GIT_AUTHOR_* GIT_COMMITTER_* GIT_SSH GIT_SSH_COMMAND GIT_SSH_VARIANT GIT_EDITOR GIT_PAGER
    GIT_TERMINAL_PROMPT GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_NOSYSTEM
    LD_LIBRARY_PATH DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH PKG_CONFIG_PATH NIX_* HOMEBREW_PREFIX
    PYTHONPATH PYTHONUTF8 PYTHONIOENCODING VIRTUAL_ENV CONDA_* MAMBA_* PYENV_* PIP_* UV_* POETRY_*
    NODE_PATH NODE_OPTIONS NODE_ENV NVM_* FNM_* VOLTA_HOME PNPM_HOME COREPACK_* YARN_* npm_config_*
    NPM_CONFIG_* BUN_INSTALL DENO_DIR CARGO_HOME CARGO_TARGET_DIR RUSTUP_* RUSTFLAGS
    GOPATH GOROOT GOBIN GOFLAGS GOPROXY GOPRIVATE GOCACHE GOMODCACHE
    JAVA_HOME JDK_HOME MAVEN_HOME MAVEN_OPTS GRADLE_* SDKMAN_* ANDROID_HOME ANDROID_SDK_ROOT
    GEM_HOME GEM_PATH RBENV_ROOT BUNDLE_PATH DOTNET_ROOT NUGET_PACKAGES ASDF_* MISE_*
    CC CXX CFLAGS CXXFLAGS LDFLAGS MAKEFLAGS CMAKE_* CCACHE_DIR
    DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG WSL_DISTRO_NAME WSL_INTEROP WSLENV
    """.split()  # noqa: SIM905 - as a list it would be three pages long
)
"""Names, and prefixes before `*`; what a prefix finds is left out if its name looks secret."""

GIT_REDIRECTS = frozenset(
    f"GIT_{name}"
    for name in (
        # `git rev-parse --local-env-vars`: what belongs to one repository and to one call.
        *("ALTERNATE_OBJECT_DIRECTORIES", "CONFIG", "CONFIG_PARAMETERS", "CONFIG_COUNT", "OBJECT_DIRECTORY"),
        *("DIR", "WORK_TREE", "IMPLICIT_WORK_TREE", "GRAFT_FILE", "INDEX_FILE", "NO_REPLACE_OBJECTS"),
        *("REPLACE_REF_BASE", "PREFIX", "SHALLOW_FILE", "COMMON_DIR"),
        # What else it hands to hooks and aliases, or reads to look elsewhere or at other paths.
        *("ATTR_SOURCE", "DIFF_OPTS", "EXTERNAL_DIFF", "GLOB_PATHSPECS", "ICASE_PATHSPECS"),
        *("INTERNAL_SUPER_PREFIX", "LITERAL_PATHSPECS", "NAMESPACE", "NOGLOB_PATHSPECS", "QUARANTINE_PATH"),
        "REFLOG_ACTION",
    )
)
"""What would name a child another repository, index or setting than those of its folder."""


def without_git(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables of an outer git, such as a hook or an alias has."""
    return {
        name: value
        for name, value in env.items()
        if name not in GIT_REDIRECTS and not name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))
    }


_kept_out: set[Path] = set()


def keep_out(folder: Path) -> None:
    """Let `search_path` have no folder in this one, for as long as this process lives."""
    _kept_out.add(folder.resolve())


def absolute_folders(env: Mapping[str, str]) -> list[str]:
    """Return the folders of PATH without those that lie wherever a program is started."""
    return [one for one in env.get("PATH", os.defpath).split(os.pathsep) if one.startswith(os.sep)]


def search_path(env: Mapping[str, str]) -> str:
    """Return PATH for programs that run with our rights: without relative folders, and what is kept out.

    In `./node_modules/.bin` of its worktree an agent can put a `git` of its own.
    """
    folders = [one for one in absolute_folders(env) if not (_kept_out and _is_kept_out(Path(one)))]
    return os.pathsep.join(folders) or os.defpath


def _is_kept_out(folder: Path) -> bool:
    place = folder.resolve()
    return any(place.is_relative_to(one) for one in _kept_out)


def environment(
    additions: Mapping[str, str],
    marker: str,
    extra_path: Sequence[Path] = (),
    passed: Sequence[str] = (),
) -> dict[str, str]:
    """Build a child's environment from ours.

    Args:
        additions: set whatever else is said.
        marker: the attempt's id; everything that the child starts carries it too.
        extra_path: folders before those of PATH.
        passed: names, or prefixes before `*`, that pass besides `EVERYBODY`. Our own settings and git's
            redirections never do.
    """
    kept = {name: value for name, value in without_git(os.environ).items() if not name.startswith("SKO_")}
    common = _matching(kept, EVERYBODY)
    common = {one for one in common if one in EVERYBODY or not is_secret_name(one)}
    chosen = common | _matching(kept, passed)
    inherited = {name: value for name, value in kept.items() if name in chosen}
    if extra_path:
        parts = [*map(str, extra_path), inherited.get("PATH", os.defpath)]
        inherited["PATH"] = os.pathsep.join(parts)
    # What one agent has replaced, the next one would take for what the commits hold.
    return {**inherited, "GIT_NO_REPLACE_OBJECTS": "1", **additions, MARKER: marker}


def named(env: Mapping[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """Return the variables that names, or prefixes before `*`, stand for, without our settings and git's."""
    kept = {name: value for name, value in without_git(env).items() if not name.startswith("SKO_")}
    return {name: kept[name] for name in sorted(_matching(kept, patterns))}


def _matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    if not patterns:
        return set()
    # A star elsewhere than at the end is a letter like others: no variable has it in its name.
    parts = (re.escape(one[:-1]) + ".*" if one.endswith("*") else re.escape(one) for one in patterns)
    matches = re.compile("|".join(parts), re.DOTALL).fullmatch
    return {name for name in names if matches(name)}
