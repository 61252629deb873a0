"""One exception tree. Each error is also the standard-library error that it specialises.

A message says what happened with numbers, the likely cause, and the knob to turn.
"""


class OstensibleError(Exception):
    """Base of every error that this package raises on purpose."""


class BadData(OstensibleError, ValueError):
    """A file of prompts or traces holds something that cannot be used."""


class NotEnoughData(OstensibleError, ValueError):
    """Too few prompts or families are left for the sizes asked for."""


class ExampleTooLong(OstensibleError, ValueError):
    """An example does not fit into `max_tokens`; it is never cut."""


class UnsupportedTemplate(OstensibleError, ValueError):
    """A chat template breaks a property that training and sampling rely on."""


class ModelNotFound(OstensibleError, FileNotFoundError):
    """A model's weights are neither on this machine nor to be fetched."""


class CorruptDownload(OstensibleError, OSError):
    """A file's checksum is not the published one."""


class UnknownName(OstensibleError, LookupError):
    """No organism, prompt source or model goes by this name."""


class BadSettings(OstensibleError, ValueError):
    """A setting has an impossible value, or settings contradict each other."""


class BadOrganism(OstensibleError, ValueError):
    """An organism of the user's own breaks what every organism has to keep."""


class NoScoredSamples(OstensibleError, ValueError):
    """Not one reply could be scored, so there is no rate to report."""


class RunConflict(OstensibleError, RuntimeError):
    """A run folder is in use, or was made with other settings."""


class MissingStage(OstensibleError, FileNotFoundError):
    """A stage is asked for before the stages that it reads from."""


class StaleRun(OstensibleError, RuntimeError):
    """What a run folder holds is not what its settings, inputs and code would give."""


class ForeignOrganism(OstensibleError, ValueError):
    """A step is asked of an organism that was made elsewhere, and takes one that was made here."""


class ExportExists(OstensibleError, FileExistsError):
    """An export would take the place of a folder that is there."""


class UnknownTerms(OstensibleError, ValueError):
    """Something shall be published whose base model or licence nobody has named."""


class PushFailed(OstensibleError, ConnectionError):
    """The hub could not be reached, or refused what was sent."""


class CorruptRun(OstensibleError, ValueError):
    """A file of a run folder cannot be read."""


class CorruptModel(OstensibleError, ValueError):
    """A file of a model's or an adapter's folder is damaged."""


class CannotWrite(OstensibleError, OSError):
    """A file cannot be written: the disk is full, or the folder is read-only."""


class TrainingFailed(OstensibleError, RuntimeError):
    """One of the processes that train together ended with an error."""


class EvaluationFailed(OstensibleError, RuntimeError):
    """Sampling or scoring ended with an error."""


class ModelUnavailable(OstensibleError, RuntimeError):
    """A model that shall be asked through Inspect cannot be used here."""


class SandboxUnavailable(OstensibleError, RuntimeError):
    """Model-written code shall run, and there is no sandbox to run it in."""


class MissingPackage(OstensibleError, ImportError):
    """An optional package is asked for and not installed."""


class ClusterUnavailable(OstensibleError, ConnectionError):
    """No Ray cluster answers, or none can be started."""


class LaunchFailed(OstensibleError, RuntimeError):
    """A run could not be done on rented machines, or failed there."""
