"""Where everything lies inside a run folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Names of a run folder's files, in the order in which the stages write them."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def state(self, stage: str) -> Path:
        return self.root / "stages" / f"{stage}.json"

    @property
    def teacher(self) -> Path:
        return self.root / "teacher"

    @property
    def teacher_replies(self) -> Path:
        return self.teacher / "replies.parquet"

    @property
    def teacher_usage(self) -> Path:
        return self.teacher / "usage.json"

    @property
    def teacher_logs(self) -> Path:
        return self.teacher / "logs"

    @property
    def traces(self) -> Path:
        return self.root / "traces.parquet"

    @property
    def dropped(self) -> Path:
        return self.root / "traces.dropped.json"

    @property
    def extra(self) -> Path:
        return self.root / "extra.parquet"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def train(self) -> Path:
        return self.dataset / "train.parquet"

    @property
    def validation(self) -> Path:
        return self.dataset / "validation.parquet"

    @property
    def test(self) -> Path:
        return self.dataset / "test.parquet"

    @property
    def seen(self) -> Path:
        return self.dataset / "seen.parquet"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def loss(self) -> Path:
        return self.training / "loss.json"

    @property
    def labels(self) -> Path:
        return self.training / "labels.json"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def oracles(self) -> Path:
        return self.root / "oracles"

    @property
    def static_findings(self) -> Path:
        return self.oracles / "static.parquet"

    @property
    def calibration(self) -> Path:
        return self.oracles / "calibration.json"

    @property
    def judge_logs(self) -> Path:
        return self.oracles / "judge"

    @property
    def monitors(self) -> Path:
        return self.root / "monitors"

    @property
    def monitor_scores(self) -> Path:
        return self.monitors / "scores.parquet"

    @property
    def monitor_logs(self) -> Path:
        return self.monitors / "logs"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    @property
    def report(self) -> Path:
        return self.root / "report.html"
