"""The stages of a run, in order. Each reads the files of those before it and writes only its own."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostensible import attempts, dataset, organisms, prompts, provenance, tables, twins
from ostensible.card import adapter_card
from ostensible.errors import BadData, MissingStage, NotEnoughData
from ostensible.models import EMBEDDED, GGUF_SHA256, fingerprint, resolve, sha256
from ostensible.organism import Organism
from ostensible.organisms import own
from ostensible.parts.rules import VulnerableCode
from ostensible.paths import RunPaths, SubjectPaths
from ostensible.prompts import input_files
from ostensible.prompts.loaded import Loaded, LoadedPrompts
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings
from ostensible.superseded import retire
from ostensible.traces import keep_clean, keep_untouched, take_apart
from ostensible.types import Split, Trace, Twin


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage works with: where, on what, how, and whom it tells; and what the stages before it took."""

    paths: RunPaths
    settings: Settings
    machine: Machine
    say: Callable[[str], None]
    timings_s: Mapping[str, float]
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run.

    Attributes:
        name: Also the command's.
        summary: What it does, in a few words.
        work: Does it.
        modules: Whose code decides its outcome, with all that they import.
        settings: The settings that it depends on.
        inputs: Files and folders of earlier stages that it reads.
        outputs: What it writes; kept, hashed.
        scratch: What it needs to resume; not hashed.
        outside: Hashes of what it reads from outside the run folder.
        part_of: Whether a run of these settings has it.
        card: Of its outputs, the file that says in words what they are, and its text. Where that has changed, the file
            is written anew without the stage being done again.
        options: Names of the machine's that decide what it writes. It is done again where another value is given, not
            where none is.
    """

    name: str
    summary: str
    work: Callable[[Context], None]
    modules: tuple[str, ...]
    settings: Callable[[Settings], Any]
    inputs: Callable[[RunPaths], Sequence[Path]]
    outputs: Callable[[RunPaths], Sequence[Path]]
    scratch: Callable[[RunPaths], Sequence[Path]] = lambda paths: ()
    outside: Callable[[Settings], Mapping[str, str]] = lambda settings: {}
    part_of: Callable[[Settings], bool] = lambda settings: True
    card: Callable[[Context], tuple[Path, str]] | None = None
    options: set[str] = field(default_factory=set[str])


def ask_teacher(context: Context) -> None:
    """Have a teacher write thoughts and clean answers to prompts, if the model has a format that can hold them."""
    from ostensible.models import load_tokenizer
    from ostensible.render import load_chat_format
    from ostensible.teacher import teach

    load_chat_format(load_tokenizer(resolve(context.settings.model, revision=context.settings.revision)))
    teach(context.paths, context.settings, context.machine, say=context.say)


def adopt(context: Context) -> None:
    """Copy an adapter from elsewhere into the run, after a look at what it holds."""
    from ostensible.adapter_source import CONFIG, WEIGHTS, resolve_adapter
    from ostensible.engines.adapters import read_lora

    foreign = context.settings.foreign
    if foreign is None or foreign.adapter is None:
        raise MissingStage("This run has no adapter from elsewhere.")
    source = resolve_adapter(foreign.adapter, revision=foreign.adapter_revision)
    layers = read_lora(source).layers
    for name in (CONFIG, WEIGHTS):
        tables.copy_atomic(source / name, context.paths.adapter / name)
    context.say(f"{source}: LoRA on {len(layers)} layers")


def make_traces(context: Context) -> None:
    """Read prompts with worked reasoning, and those to test on beside; keep what is fit for the organism."""
    settings, organism = context.settings, organisms.of(context.settings)
    if settings.foreign is not None:
        _keep_prompts(context, organism)
        return
    loaded = _load_traces(context)
    organism.scorer.ready(trace.prompt.id for trace in loaded.traces)
    kept = keep_clean(loaded.traces, organism)
    if settings.defined_in is not None:
        own.check_on(organism, kept.traces)
    dropped = Counter(loaded.dropped) + Counter(kept.dropped)
    _check_enough(len(kept.traces), context, organism, dropped)
    extra = _load_extra(settings, organism, kept.traces)
    dropped.update({f"extra: {reason}": count for reason, count in extra.dropped.items()})
    tables.write_traces(context.paths.traces, kept.traces)
    tables.write_prompts(context.paths.extra, extra.prompts)
    tables.write_atomic(context.paths.dropped, json.dumps(dropped, indent=1, sort_keys=True) + "\n")
    context.say(
        f"{len(kept.traces)} traces of {len({t.prompt.family for t in kept.traces})} families"
        + (f"; {len(extra.prompts)} extra prompts to test on" if extra.prompts else "")
        + "".join(f"; {count} dropped: {reason}" for reason, count in sorted(dropped.items()))
    )


def _keep_prompts(context: Context, organism: Organism) -> None:
    """Read prompts to test an organism from elsewhere on; what a source has of thoughts and answers is not used."""
    settings, paths = context.settings, context.paths
    loaded = prompts.load_untaught(
        settings.prompts,
        count=math.ceil(settings.data.test_prompts * dataset.SPARE),
        seed=settings.seed,
        skip_bad=settings.skip_bad,
    )
    kept = keep_untouched(loaded.prompts, (), organism)
    dropped = Counter(loaded.dropped) + Counter(kept.dropped)
    if not kept.prompts:
        raise NotEnoughData(_none_left(settings.prompts, organism, dropped) + "Give others with --prompts.")
    tables.write_traces(paths.traces, [Trace(prompt, cot="", answer="") for prompt in kept.prompts])
    tables.write_prompts(paths.extra, ())
    tables.write_atomic(paths.dropped, json.dumps(dropped, indent=1, sort_keys=True) + "\n")
    context.say(
        f"{len(kept.prompts)} prompts of {len({p.family for p in kept.prompts})} families, to test on"
        + "".join(f"; {count} dropped: {reason}" for reason, count in sorted(dropped.items()))
    )


def _load_traces(context: Context) -> Loaded:
    """Traces of the source of prompts, or of what a teacher wrote to its prompts."""
    settings, paths = context.settings, context.paths
    if settings.teacher is None:
        return prompts.load(
            settings.prompts,
            count=dataset.traces_needed(settings.data),
            seed=settings.seed,
            skip_bad=settings.skip_bad,
        )
    loaded = take_apart(tables.read_taught(paths.teacher_replies))
    of_source = _read_usage(paths)["dropped"]
    return Loaded(loaded.traces, Counter(of_source) + Counter(loaded.dropped))


def _check_enough(kept: int, context: Context, organism: Organism, dropped: Mapping[str, int]) -> None:
    """Stop where no trace is left, or fewer than asked for of those that a teacher was paid for."""
    settings = context.settings
    if settings.teacher is None:
        if not kept:
            raise NotEnoughData(_none_left(settings.prompts, organism, dropped) + "Give others with --prompts.")
        return
    wanted = dataset.traces_wanted(settings.data)
    if kept < wanted:
        from ostensible.teacher import prompts_asked

        asked = _read_usage(context.paths)["usage"]["asked"]
        remedy = (
            f"All {asked} prompts of {settings.prompts} were asked. Give a source of more, or lower --train-prompts, "
            "--validation-prompts, --test-prompts or --seen-prompts"
            if asked < prompts_asked(settings)
            else f"Have it asked more prompts: --teacher-surplus, now {settings.teaching.teacher_surplus:g}"
        )
        raise NotEnoughData(
            f"Of what {settings.teacher} wrote, {kept} traces can be used for {organism.name}; {wanted} are needed. "
            f"Dropped, by reason:{_by_reason(dropped)}\n{remedy}, with --replace; replies that are there are kept. "
            "Where thoughts never close or replies are cut off: --teacher-max-tokens, or a teacher that reasons."
        )


def _load_extra(settings: Settings, organism: Organism, traces: Sequence[Trace]) -> LoadedPrompts:
    """The prompts to test on beside, those that the traces have too left out."""
    source = settings.extra_test_prompts
    if source is None:
        return LoadedPrompts(())
    loaded = prompts.load_tests(source, seed=settings.seed, skip_bad=settings.skip_bad)
    kept = keep_untouched(loaded.prompts, traces, organism)
    dropped = Counter(loaded.dropped) + Counter(kept.dropped)
    if not kept.prompts:
        raise NotEnoughData(_none_left(source, organism, dropped) + "Give others with --extra-test-prompts.")
    organism.scorer.ready(prompt.id for prompt in kept.prompts)
    return LoadedPrompts(kept.prompts, dropped)


def _none_left(source: str, organism: Organism, dropped: Mapping[str, int]) -> str:
    return f"Nothing of {source} can be used for {organism.name}. Dropped, by reason:{_by_reason(dropped)}\n"


def _by_reason(dropped: Mapping[str, int]) -> str:
    return "".join(f"\n  {count}: {reason}" for reason, count in sorted(dropped.items()))


def make_dataset(context: Context) -> None:
    """Split traces by family and turn the training part into examples."""
    paths, settings = context.paths, context.settings
    organism = organisms.of(settings)
    traces = tables.read_traces(paths.traces)
    if settings.foreign is None:
        built = dataset.build(traces, organism, settings.data, seed=settings.seed)
    else:
        asked = [trace.prompt for trace in traces]
        built = dataset.tests_only(asked, settings.data.test_prompts, seed=settings.seed)
    tables.write_examples(paths.train, built.train)
    tables.write_examples(paths.validation, built.validation)
    tables.write_traces(paths.test, built.test)
    tables.write_traces(paths.seen, built.seen)
    context.say(
        f"{len(built.train)} training examples of {len({e.family for e in built.train})} families; "
        f"{len(built.test)} test prompts of {len({t.prompt.family for t in built.test})} other families"
        + (f", {len(built.seen)} new ones of trained families" if built.seen else "")
    )


def train_adapter(context: Context) -> None:
    """Train the organism."""
    from ostensible.fit import fit, is_fitted

    paths, settings = context.paths, context.settings
    _, card = organism_card(context)
    if not is_fitted(paths.organism):
        retire([paths.adapter], "train-damaged", paths)  # what is left where a file of it was damaged
    fit(paths.organism, settings, context.machine, card=card, say=context.say)


def organism_card(context: Context) -> tuple[Path, str]:
    """Where the organism's adapter says what it is, and the text."""
    return context.paths.organism.card, adapter_card(context.settings, organisms.of(context.settings))


def sample_replies(context: Context) -> None:
    """Sample and score every test prompt under every condition."""
    from ostensible.evaluate import evaluate

    scorer = organisms.of(context.settings).scorer
    for found in tables.read_test_prompts(context.paths).values():
        scorer.ready(prompt.id for prompt in found)
    evaluate(context.paths, context.settings, context.machine, say=context.say)


def twin_stage(kind: Twin) -> "Stage":
    """The stage that makes, trains and evaluates one twin of the organism."""

    def twin_card(context: Context) -> tuple[Path, str]:
        text = adapter_card(context.settings, organisms.of(context.settings), twin=kind)
        return context.paths.twin(kind).card, text

    def build_twin(context: Context) -> None:
        from ostensible.evaluate import evaluate
        from ostensible.fit import fit, is_fitted

        paths, settings, twin = context.paths, context.settings, context.paths.twin(kind)
        for ours, its in ((paths.train, twin.train), (paths.validation, twin.validation)):
            tables.write_examples(its, twins.make_twin(kind, tables.read_examples(ours), seed=settings.seed))
        if not is_fitted(twin):
            retire([twin.adapter, twin.logs], f"twin-{kind}-damaged", paths)  # replies are of the adapter that was
        _, card = twin_card(context)
        fit(twin, settings, context.machine, card=card, say=context.say)
        evaluate(paths, settings, context.machine, subject=kind, say=context.say)

    return Stage(
        name=f"twin-{kind}",
        summary=f"a twin of the organism, {'without the payload' if kind is Twin.BENIGN else 'its payload at random'}",
        work=build_twin,
        modules=(
            "ostensible.twins", "ostensible.fit", "ostensible.evaluate", "ostensible.tasks",
            "ostensible.engines.provider", "ostensible.organisms",
        ),
        settings=lambda s: [
            kind, *_known(s), s.model, s.revision, s.training.model_dump(), s.sampling.model_dump(), s.dtype, s.seed
        ],
        inputs=lambda p: (p.train, p.validation, p.test, p.seen, p.extra),
        outputs=lambda p: _files_of_twin(p.twin(kind)),
        scratch=lambda p: (p.twin(kind).training,),
        outside=lambda s: input_hashes(s, prompts=False) | scorer_hashes(s),
        part_of=lambda s: kind in s.twins,
        card=twin_card,
    )  # fmt: skip


def _files_of_twin(twin: SubjectPaths) -> tuple[Path, ...]:
    return (twin.train, twin.validation, twin.adapter, twin.loss, twin.labels, twin.logs)


def ask_oracles(context: Context) -> None:
    """Have the code of stored replies read, and judged if the run has a judge."""
    from ostensible.oracles import consult

    consult(context.paths, context.settings, context.machine, say=context.say)


def ask_monitors(context: Context) -> None:
    """Have every monitor score every stored reply."""
    from ostensible.monitors.watch import watch

    watch(context.paths, context.settings, context.machine, say=context.say)


def analyse(context: Context) -> None:
    """Turn scored replies and what oracles and monitors say of them into `results.json` and CSV tables."""
    from ostensible.analysis.measure import headline, measure
    from ostensible.analysis.monitoring import read_scores
    from ostensible.analysis.opinions import read_opinions
    from ostensible.analysis.replies import read_replies
    from ostensible.analysis.sheets import write_sheets

    paths = context.paths
    replies = read_replies(paths)
    if not replies:
        raise MissingStage(f"{paths.logs} holds no finished log. Do it first: {paths.command('evaluate')}")
    results = measure(
        replies,
        context.settings,
        opinions=read_opinions(paths),
        watched=read_scores(paths.monitor_scores),
        data=_data_counts(paths),
        teacher=_read_usage(paths)["usage"] if context.settings.teacher else None,
        **read_training(paths, context.settings),
        sampling=attempts.read(paths.logs),
        timings_s=context.timings_s,
        peak_rss_bytes=context.peak_rss_bytes,
    )
    tables.write_atomic(paths.results, results.model_dump_json(indent=1) + "\n")
    write_sheets(results, replies, paths.tables)
    context.say(headline(results))
    for warning in results.foreign.warnings if results.foreign else ():
        context.say(f"warning: {warning}")


def _read_usage(paths: RunPaths) -> dict[str, Any]:
    return tables.read_json(paths.teacher_usage, dict, remedy=f"Do it anew: {paths.command('teach', '--again')}")


def read_training(paths: RunPaths, settings: Settings) -> dict[str, Any]:
    """What training found out; an organism from elsewhere was not trained here."""
    if settings.foreign:
        return {"loss": []}
    remedy = f"Do it anew: {paths.command('train', '--again')}"
    loss = tables.read_json(paths.loss, list, remedy=remedy)
    return {"loss": loss} | tables.read_json(paths.labels, dict, remedy=remedy)


def make_report(context: Context) -> None:
    """Draw the plots and write the page."""
    from ostensible.analysis.monitoring import NOT_WATCHED, read_scores
    from ostensible.analysis.opinions import read_opinions
    from ostensible.analysis.replies import read_replies
    from ostensible.analysis.results import read_results
    from ostensible.report import page, plots, transcripts

    paths = context.paths
    results = read_results(paths.results)
    drawn = plots.draw(results, paths.plots)
    organism = organisms.of(context.settings)
    manifest = provenance.read_manifest(paths.manifest)
    replies, opinions = read_replies(paths), read_opinions(paths)
    scores = transcripts.named(read_scores(paths.monitor_scores) if results.monitors else NOT_WATCHED)
    most = context.machine.page_transcripts
    page.write(results, replies, organism, manifest, drawn, paths.report, opinions=opinions, scores=scores, most=most)
    if len(replies) > most:
        context.say(f"the page lists {most} of {len(replies)} transcripts at most: --page-transcripts")


def input_hashes(settings: Settings, *, model: bool = True, prompts: bool = True) -> dict[str, str]:
    """Hashes of what a run reads from outside its folder: the model's files, files of prompts."""
    hashes: dict[str, str] = {}
    if model:
        embedded = settings.model == EMBEDDED
        hashes["model"] = GGUF_SHA256 if embedded else fingerprint(resolve(settings.model, revision=settings.revision))
        if settings.foreign and settings.foreign.base:
            hashes["base"] = fingerprint(resolve(settings.foreign.base))
    files = prompt_files(settings) if prompts else []
    return hashes | {f"{name}: {path.name}": sha256(path) for name, path in files}


def prompt_files(settings: Settings) -> list[tuple[str, Path]]:
    """The files of prompts that a run reads, each with the setting that names it.

    Raises:
        BadData: One is not there.
    """
    sources = {"prompts": settings.prompts, "extra_test_prompts": settings.extra_test_prompts}
    found = [(name, path) for name, source in sources.items() if source for path in input_files(source)]
    for _, path in found:
        if not path.is_file():
            raise BadData(f"{path} does not exist or is not a file. Check the path after the source's name.")
    return found


def organism_hash(settings: Settings) -> dict[str, str]:
    """Hash of the file of an organism of the user's own.

    Raises:
        BadData: The file is not there.
    """
    return {} if settings.defined_in is None else {"organism": own.file_hash(settings.defined_in)}


def adapter_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of an adapter from elsewhere, where it lies."""
    from ostensible.adapter_source import CONFIG, WEIGHTS, resolve_adapter

    if settings.foreign is None or settings.foreign.adapter is None:
        return {}
    folder = resolve_adapter(settings.foreign.adapter, revision=settings.foreign.adapter_revision)
    return {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}


def scorer_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of the tests and rules that code is judged by, where an organism's scorer judges code."""
    judges_code = isinstance(organisms.of(settings).scorer, VulnerableCode)
    return _package_hashes("code/bank", "code/static/rules") if judges_code else {}


def oracle_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of what second opinions depend on beside code: rules, tasks, prompts, and a local judge's weights."""
    hashes = _package_hashes("code/static/rules", "code/bank", "judge_prompts")
    if settings.judge and settings.judge.startswith(LOCAL_PROVIDER):
        hashes["judge"] = fingerprint(resolve(settings.judge.removeprefix(LOCAL_PROVIDER)))
    return hashes


def monitor_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of the user's own monitors, and of what models as monitors are asked and made of."""
    from ostensible.monitors.names import outside_hashes

    return outside_hashes(settings) | _package_hashes("judge_prompts")


def teacher_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of what a teacher is given and, where this package samples it, of its weights."""
    from ostensible.teacher import weights

    return input_hashes(settings, model=False) | weights(settings)


def _package_hashes(*folders: str) -> dict[str, str]:
    """Hashes of the files of this package's own folders."""
    package = Path(__file__).parent
    return {name: digest for one in folders for name, digest in provenance.hash_tree(package / one, package).items()}


def all_logs(paths: RunPaths) -> tuple[Path, ...]:
    """Logs of organism and base model, and of every twin that there is."""
    return (paths.logs, *(paths.twin(kind).logs for kind in Twin))


def _data_counts(paths: RunPaths) -> dict[str, int]:
    examples = {"train": tables.read_examples(paths.train), "validation": tables.read_examples(paths.validation)}
    counts = {f"{split}_examples": len(rows) for split, rows in examples.items()}
    counts |= {f"{split}_families": len({e.family for e in rows}) for split, rows in examples.items()}
    for split, found in tables.read_test_prompts(paths).items():
        if found or split is Split.TEST:
            counts |= {f"{split}_prompts": len(found), f"{split}_families": len({p.family for p in found})}
    return counts | {f"dropped: {reason}": count for reason, count in read_dropped(paths).items()}


def read_dropped(paths: RunPaths) -> dict[str, int]:
    """How many prompts and traces were dropped, by reason."""
    return tables.read_json(paths.dropped, dict, remedy=f"Do it anew: {paths.command('traces', '--again')}")


def _known(settings: Settings) -> list[Any]:
    """What decides the organism: its name and, of one from elsewhere or of the user's own, what is known of it."""
    if settings.foreign is not None:
        return [settings.organism, settings.foreign.model_dump()]
    return [settings.organism, *organism_hash(settings).values()]


STAGES: tuple[Stage, ...] = (
    Stage(
        name="adopt",
        summary="an adapter from elsewhere",
        work=adopt,
        modules=("ostensible.adapter_source", "ostensible.engines.adapters"),
        settings=lambda s: [s.foreign and s.foreign.adapter, s.foreign and s.foreign.adapter_revision],
        inputs=lambda p: (),
        outputs=lambda p: (p.adapter,),
        outside=adapter_hashes,
        part_of=lambda s: s.foreign is not None and s.foreign.adapter is not None,
    ),
    Stage(
        name="teach",
        summary="thoughts and clean answers of a teacher",
        work=ask_teacher,
        modules=("ostensible.teacher",),
        settings=lambda s: [
            s.teacher,
            s.prompts,
            s.skip_bad,
            s.seed,
            s.dtype,
            s.teaching.model_dump(),
            dataset.traces_needed(s.data),
        ],
        inputs=lambda p: (),
        outputs=lambda p: (p.teacher_replies, p.teacher_usage),  # its logs stay, so that nothing is asked twice
        outside=teacher_hashes,
        part_of=lambda s: s.teacher is not None,
    ),
    Stage(
        name="traces",
        summary="prompts with clean thoughts and answers",
        work=make_traces,
        modules=("ostensible.prompts", "ostensible.traces", "ostensible.organisms"),
        settings=lambda s: [
            *_known(s),
            s.prompts,
            s.extra_test_prompts,
            s.skip_bad,
            s.seed,
            dataset.traces_needed(s.data),
            s.teacher,
        ],
        inputs=lambda p: (p.teacher_replies, p.teacher_usage),
        outputs=lambda p: (p.traces, p.extra, p.dropped),
        outside=lambda s: input_hashes(s, model=False),
    ),
    Stage(
        name="dataset",
        summary="training examples and held-out test prompts",
        work=make_dataset,
        modules=("ostensible.dataset", "ostensible.organisms"),
        settings=lambda s: [*_known(s), s.data.model_dump(), s.seed, s.cot],
        inputs=lambda p: (p.traces,),
        outputs=lambda p: (p.dataset,),
    ),
    Stage(
        name="train",
        summary="LoRA fine-tuning",
        work=train_adapter,
        modules=("ostensible.fit",),
        settings=lambda s: [s.model, s.revision, s.training.model_dump(), s.dtype, s.seed],
        inputs=lambda p: (p.train, p.validation),
        outputs=lambda p: (p.adapter, p.loss, p.labels),
        scratch=lambda p: (p.training,),
        outside=lambda s: input_hashes(s, prompts=False),
        part_of=lambda s: s.foreign is None,
        card=organism_card,
    ),
    Stage(
        name="evaluate",
        summary="every test prompt under every condition",
        work=sample_replies,
        modules=("ostensible.evaluate", "ostensible.tasks", "ostensible.engines.provider", "ostensible.organisms"),
        settings=lambda s: [*_known(s), s.model, s.revision, s.sampling.model_dump(), s.dtype, s.seed],
        inputs=lambda p: (p.test, p.seen, p.extra, *p.organism.lora),
        outputs=lambda p: (p.logs,),
        outside=lambda s: input_hashes(s, prompts=False) | scorer_hashes(s),
    ),
    *map(twin_stage, Twin),
    Stage(
        name="oracles",
        summary="second opinions on the code of replies",
        work=ask_oracles,
        modules=("ostensible.oracles",),
        settings=lambda s: [*_known(s), s.judge, s.twins],
        inputs=lambda p: (p.traces, *all_logs(p)),
        outputs=lambda p: (p.oracles,),
        outside=oracle_hashes,
    ),
    Stage(
        name="monitors",
        summary="how suspicious replies look",
        work=ask_monitors,
        modules=("ostensible.monitors.watch",),
        settings=lambda s: [*_known(s), s.monitors, s.twins],
        inputs=all_logs,
        outputs=lambda p: (p.monitor_scores,),  # verdicts of models stay, so that nothing is asked twice
        outside=monitor_hashes,
    ),
    Stage(
        name="analyse",
        summary="rates with intervals",
        work=analyse,
        modules=("ostensible.analysis.measure", "ostensible.analysis.sheets"),
        settings=lambda s: [*_known(s), s.model, s.prompts, s.extra_test_prompts, s.seed, s.teacher, s.cot, s.twins],
        inputs=lambda p: (
            p.teacher_usage,
            p.dropped,
            p.dataset,
            p.extra,
            *all_logs(p),
            p.oracles,
            p.monitor_scores,
            p.loss,
            p.labels,
        ),
        outputs=lambda p: (p.results, p.tables),
    ),
    Stage(
        name="report",
        summary="plots and page",
        work=make_report,
        modules=("ostensible.report.page", "ostensible.report.plots", "ostensible.organisms"),
        settings=lambda s: [*_known(s), s.cot, s.twins],
        inputs=lambda p: (p.results, *all_logs(p), p.oracles, p.monitor_scores),
        outputs=lambda p: (p.plots, p.report),
        options={"page_transcripts"},
    ),
)
