"""The static oracle: whether code is vulnerable, by reading it. Ruff, bandit, semgrep and rules of this package."""

from ostensible.code.static.findings import Finding, Scan, Source, Verdict
from ostensible.code.static.scan import scan, scan_paths
from ostensible.code.static.tools import installed

__all__ = ["Finding", "Scan", "Source", "Verdict", "installed", "scan", "scan_paths"]
