"""Where everything lies inside a run folder."""

import shlex
from dataclasses import dataclass
from pathlib import Path


def named(name: str) -> Path | None:
    """The file or folder that a name of the user's or of a file leads to; None where there is none.

    A name that no path can have is one of these: too long, with a zero byte, in the home of nobody.
    """
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


@dataclass(frozen=True, slots=True)
class SubjectPaths:
    """Where one trained model of a run lies, the organism or a twin: its examples, its adapter, its replies.

    Attributes:
        train: Examples to train on.
        validation: Examples for the validation loss.
        training: Checkpoints, and what was logged in training.
        adapter: The finished adapter.
        logs: Of its evaluation.
    """

    train: Path
    validation: Path
    training: Path
    adapter: Path
    logs: Path

    @property
    def loss(self) -> Path:
        return self.training / "loss.json"

    @property
    def labels(self) -> Path:
        return self.training / "labels.json"

    @property
    def lora(self) -> tuple[Path, ...]:
        """What of an adapter decides replies."""
        return tuple(self.adapter / name for name in ("adapter_config.json", "adapter_model.safetensors"))

    @property
    def card(self) -> Path:
        return self.adapter / "README.md"

    @property
    def adapter_files(self) -> tuple[Path, ...]:
        """What a whole adapter has."""
        return (*self.lora, self.card)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Names of a run folder's files, in the order in which the stages write them."""

    root: Path

    def command(self, stage: str, *options: str) -> str:
        """The command that does a stage of this run, as a shell takes it."""
        return shlex.join(["ostensible", stage, str(self.root), *options])

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def superseded(self) -> Path:
        return self.root / "superseded"

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
        return self.organism.loss

    @property
    def labels(self) -> Path:
        return self.organism.labels

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def organism(self) -> SubjectPaths:
        return SubjectPaths(self.train, self.validation, self.training, self.adapter, self.logs / "organism")

    def twin(self, kind: str) -> SubjectPaths:
        root = self.root / "twins" / kind
        return SubjectPaths(
            root / "train.parquet", root / "validation.parquet", root / "training", root / "adapter", root / "logs"
        )

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
