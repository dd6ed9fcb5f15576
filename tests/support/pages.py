"""The pages of the documentation, as tests read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sample(page: str, name: str) -> str:
    """The block of Python on `page` that begins with the comment `# name`."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    found: list[str] = [block for block in blocks if block.startswith(f"# {name}\n")]
    assert len(found) == 1
    return found[0]
