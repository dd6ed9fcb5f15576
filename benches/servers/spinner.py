"""Uses its core for nothing, until its standard input ends or it is killed."""

import os
import sys
import threading


def main() -> None:
    """Spins."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    while True:
        pass


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


main()
