"""`make audit`: asks what is known of every locked dependency, and says what could not be asked.

Licences, sources and bans of crates are judged by `deny.toml` and need nothing from outside; advisories do, of both
languages. Exit code 0: all was asked and nothing found; 1: something was found; 2: nothing was found, and not all could
be asked.
"""

import json
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = ("requirements/runtime.txt", "requirements/dev.txt")
_SECONDS = 300


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)


class _Audit:
    """What was found and what could not be asked."""

    def __init__(self, folder: Path) -> None:
        self._deny = folder / "bin" / "cargo-deny"
        self._pip_audit = folder / "venv" / "bin" / "pip-audit"
        self.found = False
        self.unasked = False

    def crates(self) -> None:
        """Judges the crates of Cargo.lock."""
        self._tell("Licences, bans and sources of crates", _run(self._deny, "check", "licenses", "bans", "sources"))
        if _run(self._deny, "fetch", "db").returncode:
            self._could_not("Advisories on crates", "the database of advisories could not be fetched")
            return
        self._tell("Advisories on crates", _run(self._deny, "check", "--disable-fetch", "advisories"))

    def packages(self, requirements: str) -> None:
        """Judges the Python packages of a lock file."""
        what = f"Advisories on packages of {requirements}"
        options = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
        done = _run(self._pip_audit, "--requirement", requirements, *options)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            self._could_not(what, (done.stderr.strip().splitlines() or ["no answer"])[-1])
            return
        skipped = [package["name"] for package in packages if "skip_reason" in package]
        bad = [package for package in packages if package.get("vulns")]
        for package in bad:
            for fault in package["vulns"]:
                print(f"  {package['name']} {package['version']}: {fault['id']}, mended in {fault['fix_versions']}")
        if skipped:
            self._could_not(what, f"nothing is told of {len(skipped)} of {len(packages)}: {', '.join(skipped[:5])} …")
        self.found |= bool(bad)
        if bad or not skipped:
            print(f"{what}: {'FOUND, see above' if bad else f'nothing on {len(packages)}'}.")

    def _tell(self, what: str, done: subprocess.CompletedProcess[str]) -> None:
        self.found |= done.returncode != 0
        print(f"{what}: {'FOUND' if done.returncode else 'in order'}.")
        if done.returncode:
            print(done.stdout + done.stderr)

    def _could_not(self, what: str, why: str) -> None:
        self.unasked = True
        print(f"{what}: NOT ASKED, {why}.")


def main() -> int:
    """Asks; the argument is the folder with cargo-deny and pip-audit."""
    audit = _Audit(Path(sys.argv[1]).resolve())
    audit.crates()
    for requirements in _REQUIREMENTS:
        audit.packages(requirements)
    return 1 if audit.found else 2 if audit.unasked else 0


if __name__ == "__main__":
    sys.exit(main())
