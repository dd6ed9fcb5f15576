"""What was found, a sentence a finding."""

from typing import Literal

import msgspec

__all__ = ["Finding", "Verdict"]

Verdict = Literal["ok", "advice", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    verdict: Verdict
    """`wrong`: not fit for service as it is; `advice`: it works, and could be better, or should be intended."""
    area: str
    """What it belongs to: `configuration`, `database`, `nats`, `limits`, `port`."""
    text: str
    """What is so, and unless it is `ok` what to do about it: no period at its end."""

    def __str__(self) -> str:
        return f"{self.verdict:<6}  {self.area}: {self.text}"
