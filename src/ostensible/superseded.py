"""What others take the place of in a run: it is moved to `superseded/`, where it lies as it lay in the run."""

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from ostensible.paths import RunPaths


def retire(found: Sequence[Path], name: str, paths: RunPaths) -> None:
    """Move files and folders of a run to `superseded/NAME`; to `NAME-2`, and so on, where such lie there already.

    Args:
        found: Inside the run; those that do not exist are passed over.
        name: Of the folder that gets them.
        paths: Of the run.
    """
    inside = [path.relative_to(paths.root) for path in found if path.exists()]
    attics = (paths.superseded / (name if number == 1 else f"{name}-{number}") for number in count(1))
    attic = next(one for one in attics if not any((one / path).exists() for path in inside))
    for path in inside:
        (attic / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(paths.root / path, attic / path)
