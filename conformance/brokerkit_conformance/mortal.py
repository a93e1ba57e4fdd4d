"""A process that ends when the one that started it ends, however that ends: nothing of a run may outlive it.

It imports nothing of brokerkit, so that it can be run from its file before anything else is imported. As a script it waits
for the end of its standard input, for whoever needs a process that does no more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["end_with"]

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; end at once if that has happened already.

    What counts is the end of the thread that started this process, which therefore has to wait for it. On systems other
    than Linux nothing happens.

    Args:
        parent: process id of the one that started this one, as it told itself.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # no C library to ask, or one without it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    sys.stdin.read()
