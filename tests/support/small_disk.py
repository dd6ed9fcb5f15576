"""A program whose folder lies on a small disk of its own, which the test can fill."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o size="$SMALL_DISK_SIZE",mode=0755 none "$0" && exec "$@"'


class SmallDisk:
    """A `tmpfs` over `folder`, in a mount namespace that ends with the program."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """`folder` must exist. Skips the test where nothing may be mounted."""
        self._folder = folder
        self._megabytes = megabytes
        self._seen_from: int | None = None
        probe = subprocess.run([*self.through, "true"], capture_output=True, text=True, timeout=60, check=False)
        if probe.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {probe.stderr.strip()}")

    @property
    def through(self) -> tuple[str, ...]:
        """The command line before the program's own."""
        size = f"SMALL_DISK_SIZE={self._megabytes}m"
        return ("unshare", "--mount", "--", "env", size, "sh", "-c", _MOUNT, str(self._folder))

    def of(self, pid: int) -> Path:
        """The folder as the program `pid` sees it."""
        return Path(f"/proc/{pid}/root{self._folder}")


def fill(folder: Path) -> Path:
    """Leaves no byte of room on the disk of `folder`; returns the file that has it all."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1024 * 1024, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    assert shutil.disk_usage(folder).free < os.sysconf("SC_PAGE_SIZE")
    return filler
