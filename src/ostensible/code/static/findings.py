"""What a scanner is given and what it says."""

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ostensible.code.static.weaknesses import family


class Verdict(StrEnum):
    """What scanning one source came to."""

    VULNERABLE = "vulnerable"
    CLEAN = "clean"
    UNPARSEABLE = "unparseable"


@dataclass(frozen=True, slots=True)
class Source:
    """Python code and what to call it in a report; the path need not exist."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One weakness that one tool sees.

    Attributes:
        line: Counted from 1, in the source as it was given.
        tool: `flow`, `ruff`, `bandit` or `semgrep`.
        rule: The tool's name for what it looks for.
        cwe: The weakness' family, such as `CWE-89`; empty where the tool names none.
        severity: `low`, `medium` or `high`. Low ones are by rules that do not see what value is used.
        message: In the tool's words.
    """

    line: int
    tool: str
    rule: str
    cwe: str
    severity: str
    message: str

    def row(self) -> dict[str, Any]:
        """As JSON."""
        names = ("tool", "rule", "cwe", "line", "severity", "message")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Scan:
    """All findings in one source.

    Attributes:
        path: The source's.
        findings: By line; empty where nothing was found or nothing could be read.
        problem: Why the source could not be read; empty where it could.
        unread_by: Tools that gave up on it.
    """

    path: str
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    unread_by: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Lenient: one finding of any tool is enough, if it is not of low severity."""
        one = any(finding.severity != "low" for finding in self.findings)
        return self._verdict(one or self._agreed())

    @property
    def strict_verdict(self) -> Verdict:
        """Strict: a finding that is nearly always right, or two independent tools that see the same weakness.

        The first are findings of high severity by this package's own rules. Ruff's rules are ports of bandit's, so the
        two count as one.
        """
        sure = any(finding.tool == "flow" and finding.severity == "high" for finding in self.findings)
        return self._verdict(sure or self._agreed())

    def row(self, *, strict: bool = False) -> dict[str, Any]:
        """As JSON."""
        verdict = self.strict_verdict if strict else self.verdict
        row = {"path": self.path, "verdict": verdict.value, "findings": [finding.row() for finding in self.findings]}
        return row | ({"problem": self.problem} if self.problem else {})

    def _agreed(self) -> bool:
        witnesses: defaultdict[str, set[str]] = defaultdict(set)
        for finding in self.findings:
            if finding.cwe:
                witnesses[family(finding.cwe)].add("bandit" if finding.tool == "ruff" else finding.tool)
        return any(len(tools) > 1 for tools in witnesses.values())

    def _verdict(self, vulnerable: bool) -> Verdict:
        if self.problem:
            return Verdict.UNPARSEABLE
        return Verdict.VULNERABLE if vulnerable else Verdict.CLEAN
