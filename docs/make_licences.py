"""Writes the table of licences of the locked packages, from the metadata of what is installed here. `make licences`.

python docs/make_licences.py [FILE]
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
SPDX = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
LONGEST = 80
"""Characters of a licence's name; some packages have its whole text there."""


def locked(lock: Path = HERE.parent / "requirements.lock") -> list[tuple[str, str]]:
    """Name and version of each locked package."""
    return re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)


def licence(package: str) -> str:
    """What a package's metadata says of its licence: an SPDX expression, else its classifiers, else free text."""
    about = metadata.metadata(package)
    classifiers = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier", []) if one.startswith("License ::")]
    named = [SPDX.get(one, one) for one in classifiers if one not in ("OSI Approved", "DFSG approved")]
    stated = about.get("License-Expression") or ", ".join(dict.fromkeys(named)) or about.get("License") or ""
    first = (stated.strip().splitlines() or [""])[0].strip()
    return SPDX.get(first, first[:LONGEST]) or "not stated"


def page(packages: Iterable[tuple[str, str]]) -> str:
    """The table, and how many packages have each licence."""
    found = [(name, version, licence(name)) for name, version in packages]
    counts = Counter(terms for *_, terms in found)
    lines = [
        "<!-- Written by `make licences` from the metadata of installed packages; changes by hand are lost. -->",
        "# Licences of dependencies",
        f"What the metadata of the {len(found)} packages of `requirements.lock` say, as installed on Linux. Of this "
        "package itself, the embedded model and the word problems: [README](../README.md).",
        *_table(("licence", "packages"), sorted(counts.items(), key=lambda one: (-one[1], one[0]))),
        "## Each package",
        *_table(("package", "version", "licence"), found),
    ]
    return "\n\n".join(lines) + "\n"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [heads, ("---",) * len(heads), *rows]
    return ["\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "licences.md"
    target.write_text(page(locked()), encoding="utf-8")
