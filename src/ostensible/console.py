"""What a process of this package says while it works."""

import os
import sys
import warnings
from datetime import datetime


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
