"""What is looked at before any work: whether the files, models and functions that runs name can be used here."""

from collections.abc import Sequence

from ostensible.machine import pick_device
from ostensible.settings import Machine, Settings
from ostensible.stages import prompt_files


def check_runs(runs: Sequence[Settings]) -> None:
    """Make sure that all that runs read and ask is there; what several of them name alike is looked at once.

    Raises:
        BadData: A file or function is not there, or the organism can have no such teacher or judge.
        OstensibleError: A model cannot be used here.
    """
    for settings in _apart(runs, "prompts", "extra_test_prompts"):
        prompt_files(settings)
    for settings in _apart(runs, "teacher", "organism", "defined_in", "model", "revision"):
        if settings.teacher is not None:
            from ostensible.teacher import check_teacher

            check_teacher(settings)
    for settings in _apart(runs, "judge", "organism", "defined_in"):
        if settings.judge is not None:
            from ostensible.oracles import check_judge

            check_judge(settings)
    for settings in _apart(runs, "monitors"):
        if settings.monitors:
            from ostensible.monitors.watch import check_monitors

            check_monitors(settings)


def check_machine(settings: Settings, machine: Machine) -> None:
    """Make sure that a run can be trained and sampled on a machine as it is asked to be.

    Raises:
        BadSettings: The machine lacks GPUs, or they cannot share a step.
        MissingPackage: vLLM is asked for and not installed.
    """
    from ostensible.parallel import check_gpus

    check_gpus(settings.training, machine)
    check_devices(machine)


def check_devices(machine: Machine) -> None:
    """Make sure that the device and the engine that are asked for are here, before anything is made or set aside.

    Raises:
        BadSettings: There is no such device.
        MissingPackage: The engine is not installed.
    """
    if machine.device != "auto":
        pick_device(machine.device)
    if machine.engine == "vllm":
        from ostensible.evaluate import check_engine

        check_engine(machine)


def _apart(runs: Sequence[Settings], *names: str) -> list[Settings]:
    """One run for each combination of values that they have of some settings."""
    return list({tuple(getattr(one, name) for name in names): one for one in runs}.values())
