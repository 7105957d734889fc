"""Paths as the settings of confinement and the modules of agents write them, and where they lead."""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["KEYS", "PRIVATE_TMP", "Places", "homes", "leads_there"]

PRIVATE_TMP = "/tmp"  # noqa: S108 - inside a sandbox it is another folder
"""The folder for temporary files of whatever is confined."""

KEYS = tuple(
    """
    ~/.ssh ~/.gnupg ~/.aws ~/.azure ~/.kube ~/.docker ~/.oci ~/.password-store ~/.netrc ~/.git-credentials
    ~/.npmrc ~/.pypirc ~/.pgpass ~/.my.cnf ~/.boto ~/.s3cfg ~/.databrickscfg ~/.vault-token ~/.Xauthority
    ~/.config/gh ~/.config/glab-cli ~/.config/gcloud ~/.config/git/credentials ~/.config/op ~/.config/rclone
    ~/.config/doctl ~/.config/containers/auth.json ~/.config/pypoetry/auth.toml ~/.config/google-chrome
    ~/.config/chromium ~/.config/BraveSoftware ~/.mozilla ~/.thunderbird ~/.local/share/keyrings
    ~/.config/hub ~/.config/sops ~/.config/age ~/.config/heroku ~/.config/hcloud
    ~/.yarnrc.yml ~/.huggingface ~/.minikube ~/.step ~/.python_history ~/.psql_history ~/.mysql_history
    ~/.config/microsoft-edge ~/.config/vivaldi ~/.local/share/kwalletd ~/.local/share/fish/fish_history
    /var/lib/lxd/unix.socket /var/snap/lxd/common/lxd/unix.socket /var/lib/incus/unix.socket
    ~/.cargo/credentials ~/.cargo/credentials.toml ~/.gem/credentials ~/.m2/settings.xml
    ~/.gradle/gradle.properties ~/.terraform.d/credentials.tfrc.json ~/.bash_history ~/.zsh_history
    """.split()  # noqa: SIM905 - as a list it would be a page long
)
"""What opens other people's doors, and what people have typed."""


class Places:
    """Reads paths as settings write them; `~` is every HOME that could be meant."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._homes = homes(env)

    def written(self, names: Iterable[str]) -> Iterator[Path]:
        """Yield the paths that are meant, also of what is not there; `~` is the command's own HOME."""
        for name in names:
            yield from self._expand(name, self._homes[:1])

    def of(self, names: Iterable[str]) -> Iterator[Path]:
        """Yield the paths of what is there."""
        for name in names:
            yield from (path for path in self._expand(name, self._homes) if os.path.lexists(path))

    def _expand(self, name: str, homes: Sequence[Path]) -> Iterator[Path]:
        if name.startswith("~/"):
            yield from (home / name[2:] for home in homes)
        elif name.startswith("$"):
            variable, _, rest = name[1:].partition("/")
            value = self._env.get(variable, "")
            if value.startswith("/"):
                yield Path(value, rest)
        elif name.startswith("/"):
            yield Path(name)


def homes(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return every HOME that could be meant, the one of `env` first."""
    named = [env.get("HOME", ""), os.environ.get("HOME", "")]
    with suppress(KeyError):
        named.append(pwd.getpwuid(os.getuid()).pw_dir)
    return tuple(dict.fromkeys(Path(one) for one in named if one.startswith("/") and one != "/"))


def leads_there(path: Path, places: Iterable[Path]) -> bool:
    """Tell whether no link that lies in one of these places decides where a path leads."""
    real_places = [Path(os.path.realpath(one)) for one in places]
    real, left, most = Path("/"), [*reversed(path.parts[1:])], 40
    while left:
        here = real / left.pop()
        if here.name == ".." or not here.is_symlink():
            real = Path(os.path.realpath(here))
            continue
        most -= 1
        if not most or any(real.is_relative_to(one) for one in real_places):
            return False
        target = here.readlink()
        real = Path("/") if target.is_absolute() else real
        left += [part for part in reversed(target.parts) if part != "/"]
    return True
