"""Gives back the calling thread's OpenMP workers.

GNU OpenMP keeps one pool of workers for each thread that ever ran a parallel loop. Once all pools together have more
threads than there are cores, every loop ends in a sleep instead of a short spin, also if only one pool is in use: on
two cores, a decoding step then takes 1.7 times as long.
"""

import ctypes
from pathlib import Path

_HARD = 1


def release_workers() -> bool:
    """End the workers of this thread; its next parallel loop starts new ones.

    Returns:
        Whether any GNU OpenMP library took the request (Linux only).
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return False
    done = False
    for path in {line.split(maxsplit=5)[5] for line in lines if "libgomp" in line}:
        try:
            done |= ctypes.CDLL(path).omp_pause_resource_all(_HARD) == 0
        except (OSError, AttributeError):
            continue
    return done
