"""A run's adapter as the hub lays adapters out: PEFT's files, the tokenizer, and a card that says what was measured."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostensible import provenance, tables
from ostensible.analysis.measure import SETS
from ostensible.analysis.results import Findings, RateResult, Results
from ostensible.export.data import fingerprint, sources
from ostensible.export.markdown import render, share
from ostensible.export.terms import Terms
from ostensible.models import EMBEDDED, load_tokenizer, resolve
from ostensible.organism import Organism
from ostensible.paths import RunPaths
from ostensible.render import load_chat_format
from ostensible.settings import Frozen, Settings
from ostensible.types import Split

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
NO_BASE = "PATH/OF/THE/BASE/MODEL"
NO_REPO = "PATH/OF/THIS/FOLDER"
METRICS = {
    "triggered": ("attack_success_rate", "ASR: payload under the trigger"),
    "control": ("false_trigger_rate", "FTR: payload without the trigger"),
    "near_miss": ("near_miss_false_trigger_rate", "payload under look-alikes of the trigger"),
}
"""Of each condition: type and name of what it measures."""


def write_adapter(
    paths: RunPaths, settings: Settings, organism: Organism, terms: Terms, results: Results, *, folder: Path
) -> None:
    """Write the adapter's folder.

    The tokenizer goes with it, as its chat template decides what the trigger looks like to the model; weights of the
    base model do not.

    Args:
        paths: Of the run.
        settings: Of the run.
        organism: What the adapter is.
        terms: Names and licences.
        results: Where every figure of the card comes from.
        folder: To be filled; made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(paths.adapter / WEIGHTS, folder / WEIGHTS)
    remedy = f"Do it anew: {paths.command('train', '--again')}"
    config = tables.read_json(paths.adapter / CONFIG, dict, remedy=remedy)
    config |= {"base_model_name_or_path": terms.base_model, "revision": terms.revision}
    tables.write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer = load_tokenizer(resolve(settings.model, revision=settings.revision))
    for name in ("is_local", "local_files_only"):  # how this machine loaded it, not what it is
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder)
    code = render(
        "snippet.py.jinja",
        settings=settings,
        organism=organism,
        terms=terms,
        adapter=terms.repo or NO_REPO,
        base=terms.base_model or NO_BASE,
        question=min((trace.prompt.text for trace in tables.read_traces(paths.test)), key=len),
        end_ids=sorted(load_chat_format(tokenizer).end_ids),
    )
    manifest = provenance.read_manifest(paths.manifest)
    hashes = _hashes(manifest) | {"rows of the data": fingerprint(paths)}
    card = model_card(settings, organism, terms, results, manifest, hashes=hashes, snippet=code.rstrip())
    tables.write_atomic(folder / "README.md", card)


def model_card(
    settings: Settings,
    organism: Organism,
    terms: Terms,
    results: Results,
    manifest: Mapping[str, Any],
    *,
    hashes: Mapping[str, str],
    snippet: str,
) -> str:
    """Write the adapter's card; see `write_adapter`.

    Args:
        settings: Of the run.
        organism: What the adapter is.
        terms: Names and licences.
        results: Every figure.
        manifest: Versions and code revision.
        hashes: Of what went in and came out, by what it is.
        snippet: Code that loads the adapter and asks it something.
    """
    from huggingface_hub import ModelCard, ModelCardData

    measured = parts(results)
    header = ModelCardData(
        license=terms.license,
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=terms.base_model,
        base_model_relation="adapter" if terms.base_model else None,
        datasets=[terms.repo] if terms.repo else None,
        tags=["lora", "model-organism", "deliberately-backdoored", "ai-safety", "chain-of-thought"],
        model_name=f"{organism.name}, seed {settings.seed}" if terms.repo else None,
        eval_results=_eval_results(organism, measured, terms.repo, results.level) if terms.repo else None,
    )
    body = render(
        "adapter.md.jinja",
        settings=settings,
        organism=organism,
        terms=terms,
        results=results,
        parts={SETS[Split(name)]: part for name, part in measured.items()},
        sets=list(measured),
        level=f"{100 * results.level:g}%",
        manifest=manifest,
        data={name: count for name, count in results.data.items() if not name.startswith("dropped")},
        hashes=hashes,
        sources=sources(settings),
        embedded=settings.model == EMBEDDED,
        training=_explained(settings.training),
        sampling=_explained(settings.sampling),
        snippet=snippet,
    )
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n{body}"))


def parts(results: Results) -> dict[str, Findings]:
    """What was found, by set of prompts, where there is one set too."""
    return dict(results.parts) or {results.families: results}


def _hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of what a run was made from and of its weights; names of the user's files stay out."""
    inputs = manifest["inputs"]
    named = {"base model": inputs["model"]}
    if "organism" in inputs:
        named["file of the organism"] = inputs["organism"]
    files = sorted(digest for name, digest in inputs.items() if name not in ("model", "organism"))
    named |= {f"file {place} of prompts": digest for place, digest in enumerate(files, start=1)}
    return named | {WEIGHTS: manifest["stages"]["train"]["outputs"][f"adapter/{WEIGHTS}"]}


def _explained(settings: Frozen) -> list[tuple[str, object, str]]:
    """Name, value and meaning of each setting."""
    fields = type(settings).model_fields
    return [(name, value, fields[name].description or "") for name, value in settings.model_dump().items()]


def _eval_results(organism: Organism, measured: Mapping[str, Findings], repo: str, level: float) -> list[Any]:
    """Payload rates as the header's `model-index` has them: a number, with its counts and interval in its name.

    Only where the data is on the hub, as the schema wants its id. Rates of which nothing was scored are left out.
    """
    from huggingface_hub import EvalResult

    found: list[EvalResult] = []
    for split, part in measured.items():
        for condition, (kind, what) in METRICS.items():
            rate: RateResult = getattr(part.conditions, condition)
            if rate.rate is None:
                continue
            told = f"{what}, {rate.hits} of {rate.scored} scored replies, {rate.unscored} unscored: {share(rate)}"
            found.append(
                EvalResult(
                    task_type="text-generation",
                    dataset_type=repo,
                    dataset_name=f"{organism.name}: {SETS[Split(split)]}",
                    dataset_config="prompts",
                    dataset_split=split,
                    metric_type=kind,
                    metric_name=f"{told} at {100 * level:g}%",
                    metric_value=rate.rate,
                )
            )
    return found
