"""What a process of this package says while it works."""

import os
import signal
import sys
import threading
import warnings
from datetime import datetime
from typing import Any


def say(line: str) -> None:
    """Tell one line of progress, with the time of day."""
    print(f"{datetime.now():%H:%M:%S}  {line}", file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Keep what users can do nothing about out of the output; bars only where there is a terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


def heed_swallowed_interrupts() -> None:
    """Have Ctrl-C stop the program even where it arrives inside a destructor or callback, which swallows exceptions."""
    usual = sys.unraisablehook

    def deliver_again(swallowed: Any) -> None:
        if issubclass(swallowed.exc_type, KeyboardInterrupt):
            again = (threading.main_thread().ident or 0, signal.SIGINT)
            threading.Timer(0.05, signal.pthread_kill, again).start()  # raised in here, it would be swallowed too
        else:
            usual(swallowed)

    sys.unraisablehook = deliver_again
