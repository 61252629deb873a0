"""Gathers the pages of the site: README, docs/, and every file that they lead to, as they lie in the repository.

So links hold on the site as they hold in a checkout. `make docs` builds the site from it.

    python docs/stage.py FOLDER
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
STARTS = ("README.md", "docs/**/*.md")
FENCE = r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[^\S\n]*$"
SPAN = r"(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
CODE = re.compile(f"{FENCE}|{SPAN}", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")


class BrokenLink(Exception):
    """A page leads to a file that is not in the repository."""


def links(text: str) -> Iterator[str]:
    """The targets of a Markdown text's links and images that are relative, code left out."""
    for target in LINK.findall(CODE.sub("", text)):
        parts = urlsplit(target)
        if not parts.scheme and not parts.netloc and parts.path:
            yield unquote(parts.path)


def reached(root: Path = ROOT) -> list[Path]:
    """README, the pages of docs/, and every file that they lead to, relative to the root.

    Raises:
        BrokenLink: A link leads to no file of the repository; the message names all of them.
    """
    waiting = [page.relative_to(root) for pattern in STARTS for page in sorted(root.glob(pattern))]
    found, broken = dict[Path, None](), list[str]()
    while waiting:
        page = waiting.pop(0)
        if page in found:
            continue
        found[page] = None
        if page.suffix == ".md":
            for target in links((root / page).read_text(encoding="utf-8")):
                file = (root / page.parent / target).resolve()
                if file.is_file() and file.is_relative_to(root):
                    waiting.append(file.relative_to(root))
                else:
                    broken.append(f"{page}: {target}")
    if broken:
        raise BrokenLink("These links lead to no file: " + "; ".join(broken))
    return list(found)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for file in reached():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
