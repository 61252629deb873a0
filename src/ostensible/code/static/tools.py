"""The scanners, each run once over a folder of files named `0.py`, `1.py` and so on."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ostensible.code.static import flow
from ostensible.code.static.findings import Finding
from ostensible.code.static.rules import rules
from ostensible.code.static.weaknesses import BLIND, BY_NUMBER, NOISE
from ostensible.errors import EvaluationFailed

TIMEOUT_S = 600.0
Found = tuple[int, Finding]
"""The number of a file and what is wrong in it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a tool says of a folder.

    Attributes:
        found: By file.
        unread: Numbers of files that the tool gave up on.
    """

    found: tuple[Found, ...]
    unread: frozenset[int] = frozenset()


Tool = Callable[[Path], Report]


def installed() -> dict[str, Tool]:
    """The scanners that can run here, by name."""
    found: dict[str, Tool] = {"flow": own}
    if find_spec("ruff"):
        found["ruff"] = ruff
    if find_spec("bandit"):
        found["bandit"] = bandit
    if semgrep_command():
        found["semgrep"] = semgrep
    return found


def own(folder: Path) -> Report:
    """This package's flow analysis."""
    found: list[Found] = []
    unread: set[int] = set()
    for path in folder.iterdir():
        number = _number(path.name)
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [(number, finding) for finding in flow.find(tree, rules())]
        except RecursionError:
            unread.add(number)
    return Report(tuple(found), frozenset(unread))


def ruff(folder: Path) -> Report:
    """Ruff's `S` rules; comments that would silence it do not."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--ignore-noqa", "--preview"]
    ignored = ",".join(f"S{number}" for number in sorted(NOISE - {414, 609, 703}))
    rows = _run([*command, "--select", "S", "--ignore", ignored, "--output-format", "json", str(folder)], {0, 1})
    found = (
        (_number(row["filename"]), _numbered("ruff", row["code"], row["location"]["row"], "medium", row["message"]))
        for row in rows
        if row["code"] and re.fullmatch(r"S\d+", row["code"])
    )
    return Report(tuple(found))


def bandit(folder: Path) -> Report:
    """All of bandit; comments that would silence it do not."""
    command = [sys.executable, "-m", "bandit", "--recursive", "--quiet", "--ignore-nosec", "--format", "json"]
    report = _run([*command, str(folder)], {0, 1})
    found = (
        (
            _number(row["filename"]),
            _numbered("bandit", row["test_id"], row["line_number"], row["issue_severity"].lower(), row["issue_text"],
                      f"CWE-{row['issue_cwe']['id']}" if row.get("issue_cwe") else ""),
        )
        for row in report["results"]
        if int(row["test_id"][1:]) not in NOISE
    )  # fmt: skip
    return Report(tuple(found), frozenset(_number(row["filename"]) for row in report["errors"]))


def semgrep(folder: Path) -> Report:
    """Semgrep with this package's rules; comments that would silence it do not."""
    command = [str(semgrep_command()), "scan", "--metrics=off", "--disable-version-check", "--quiet", "--json"]
    command += ["--no-git-ignore", "--disable-nosem", "--max-target-bytes", "0"]
    with as_file(files("ostensible.code.static").joinpath("rules")) as rules:
        configs = [part for path in sorted(rules.glob("*.yaml")) for part in ("--config", str(path))]
        report = _run([*command, *configs, "."], {0, 1}, folder)
    return Report(tuple(_semgrep_found(report)), frozenset(_semgrep_unread(report)))


def semgrep_command() -> str | None:
    """The program named by `OSTENSIBLE_SEMGREP`, beside this Python, or on the search path."""
    named = os.environ.get("OSTENSIBLE_SEMGREP") or str(Path(sys.executable).with_name("semgrep"))
    return shutil.which(named) or shutil.which("semgrep")


def _semgrep_found(report: dict[str, Any]) -> Iterator[Found]:
    severities = {"ERROR": "high", "WARNING": "medium"}
    for row in report["results"]:
        extra = row["extra"]
        severity = severities.get(extra["severity"], "low")
        rule = row["check_id"].rpartition(".")[2]
        finding = Finding(row["start"]["line"], "semgrep", rule, extra["metadata"]["cwe"], severity, extra["message"])
        yield _number(row["path"]), finding


def _semgrep_unread(report: dict[str, Any]) -> Iterator[int]:
    for error in report["errors"]:
        if error.get("path"):
            yield _number(error["path"])


def _numbered(tool: str, rule: str, line: int, severity: str, message: str, cwe: str = "") -> Finding:
    number = int(rule[1:])
    return Finding(line, tool, rule, BY_NUMBER.get(number, cwe), "low" if number in BLIND else severity, message)


def _number(path: str) -> int:
    return int(Path(path).stem)


def _run(command: list[str], expected: set[int], folder: Path | None = None) -> Any:
    """A tool's JSON.

    Raises:
        EvaluationFailed: It ended with another status than expected, or printed something else.
    """
    name = " ".join(command[:3]) if command[1] == "-m" else command[0]
    quiet = {"SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, cwd=folder, timeout=TIMEOUT_S, check=False, env=os.environ | quiet
        )
        if done.returncode in expected:
            return json.loads(done.stdout)
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise EvaluationFailed(f"`{name}` ended with status {done.returncode}: {said}. Is its version supported?")
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise EvaluationFailed(f"`{name}` gave no result: {error}. Try it by hand, or scan without it.") from error
