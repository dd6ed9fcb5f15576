"""Run as a program: becomes another program that is told to stop when its parent dies, however that happens.

Arguments: the parent's process id, signal number, user id and group id (-1: as they are), then the program and its
arguments. A program of its own rather than a function between fork and exec, which is not safe in a process that has
threads. The order matters: a change of user clears the death signal, so it comes first (prctl(2), PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Does what the module says; exits with 1 where the parent is gone already."""
    parent, death_signal, user, group = (int(argument) for argument in sys.argv[1:5])
    program = sys.argv[5:]
    if group >= 0:
        os.setgroups([])
        os.setgid(group)
    if user >= 0:
        os.setuid(user)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit(1)
    # Python ignores these two, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted here


if __name__ == "__main__":
    main()
