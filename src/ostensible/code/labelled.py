"""Code that others labelled secure or vulnerable, read from files that the user has; to measure oracles with."""

import ast
import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ostensible.errors import BadData

NEAR_DUPLICATE = 0.5
"""Jaccard similarity of token 4-grams from which on two texts are versions of one."""


@dataclass(frozen=True, slots=True)
class LabelledCode:
    """One text of Python code and what others say of it.

    Attributes:
        id: Unique among all sets.
        set: The data set's name.
        cwe: Such as `CWE-89`; empty where the set names none.
        code: The text, dedented.
        vulnerable: The label.
        group: What this text shares with its variants (a repository, a task); texts of a group are never independent.
        twin: For vulnerable code, the id of its repaired version, if there is one.
    """

    id: str
    set: str
    cwe: str
    code: str
    vulnerable: bool
    group: str
    twin: str | None = None


def load(name: str, data: Path) -> list[LabelledCode]:
    """One of `SETS` from a folder that holds a folder for each set.

    Raises:
        BadData: A file is missing, or does not have the fields of its set.
    """
    try:
        return list(SETS[name](data))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"The labelled set {name!r} cannot be read from {data}: {error!r}. Check --data.") from error


def halves(cases: Sequence[LabelledCode]) -> dict[str, str]:
    """Put each text in the half to fit rules on (`fit`) or the half to report (`report`), by id.

    Texts of a group and near-duplicates, across sets too, stay together. In the order of their hash, such clusters go
    to `fit` as long as that holds at most half of each set, else to `report`. So the halves depend on all texts given.
    """
    room = {name: count / 2 for name, count in Counter(case.set for case in cases).items()}
    half: dict[str, str] = {}
    for cluster in sorted(_clusters(cases), key=lambda cluster: sha256(cluster[0].group.encode()).digest()):
        needed = Counter(case.set for case in cluster)
        fits = all(count <= room[name] for name, count in needed.items())
        for name, count in needed.items() if fits else ():
            room[name] -= count
        half.update({case.id: "fit" if fits else "report" for case in cluster})
    return half


def _clusters(cases: Sequence[LabelledCode]) -> list[list[LabelledCode]]:
    """Texts joined by their group or by likeness, the alphabetically first group at the head."""
    parent = {case.group: case.group for case in cases}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for a, b in _near_duplicates([case.code for case in cases]):
        first, last = sorted((root(cases[a].group), root(cases[b].group)))
        parent[last] = first
    clusters: defaultdict[str, list[LabelledCode]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: (case.group, case.id)):
        clusters[root(case.group)].append(case)
    return list(clusters.values())


def _near_duplicates(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of similar texts.

    Texts as similar as `NEAR_DUPLICATE` share one of the rarer half of their 4-grams; only such are compared.
    """
    grams = [_grams(text) for text in texts]
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, found in enumerate(grams):
        for gram in found:
            holders[gram].append(number)
    compared: set[tuple[int, int]] = set()
    for number, found in enumerate(grams):
        rare = sorted(found, key=lambda gram: (len(holders[gram]), gram))[: int(len(found) * (1 - NEAR_DUPLICATE)) + 1]
        for other in {other for gram in rare for other in holders[gram]}:
            pair = (min(number, other), max(number, other))
            if number != other and pair not in compared:
                compared.add(pair)
                if len(found & grams[other]) >= NEAR_DUPLICATE * len(found | grams[other]):
                    yield pair


def _grams(text: str) -> set[tuple[str, ...]]:
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return {tuple(tokens[start : start + 4]) for start in range(max(len(tokens) - 3, 1))}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _cwe(text: str) -> str:
    """`cwe-089`, `SE_cwe089_0` and `89` name the same weakness."""
    found = re.search(r"(?:cwe[-_]?|^)0*(\d+)", text, re.IGNORECASE)
    return f"CWE-{found[1]}" if found else ""


def _twins(name: str, key: str, cwe: str, group: str, insecure: str, secure: str) -> Iterator[LabelledCode]:
    yield LabelledCode(f"{key}/insecure", name, cwe, insecure, True, group, f"{key}/secure")
    yield LabelledCode(f"{key}/secure", name, cwe, secure, False, group)


def _sven(data: Path) -> Iterator[LabelledCode]:
    for number, row in enumerate(_rows(data / "sven_python_pairs" / "records.jsonl")):
        repository = row["commit_link"].split("/commit/")[0]
        before, after = textwrap.dedent(row["func_src_before"]), textwrap.dedent(row["func_src_after"])
        yield from _twins("sven", f"sven/{number}", _cwe(row["vul_type"]), f"sven/{repository}", before, after)


def _cweval(data: Path) -> Iterator[LabelledCode]:
    for row in _rows(data / "cweval_python" / "records.jsonl"):
        key, cwe = f"cweval/{row['id']}", _cwe(row["cwe"])
        yield LabelledCode(f"{key}/secure", "cweval", cwe, row["secure_code"], False, key)
        for variant in row["insecure_code"]:
            code = f"{row['insecure_imports']}\n\n{variant['code']}"
            yield LabelledCode(f"{key}/{variant['name']}", "cweval", cwe, code, True, key, f"{key}/secure")


def _seccodeplt(data: Path) -> Iterator[LabelledCode]:
    for row in _rows(data / "seccodeplt_python" / "records.jsonl"):
        truth, setup = row["ground_truth"], row["unittest"]["setup"]
        setup = setup if _parses(setup) else ""
        insecure, secure = (
            "\n".join((setup, truth["code_before"], truth[part], truth["code_after"]))
            for part in ("vulnerable_code", "patched_code")
        )
        key = f"seccodeplt/{row['index']}"
        yield from _twins("seccodeplt", key, _cwe(row["CWE_ID"]), key, insecure, secure)


def _securityeval(data: Path) -> Iterator[LabelledCode]:
    for row in _rows(data / "securityeval" / "records.jsonl"):
        key = f"securityeval/{row['ID']}"
        yield LabelledCode(key, "securityeval", _cwe(row["ID"]), row["Insecure_code"], True, key)


def _sallm(data: Path) -> Iterator[LabelledCode]:
    for row in _rows(data / "sallm" / "prompts_insecure.jsonl"):
        key = f"sallm/{row['id']}"
        yield LabelledCode(key, "sallm", _cwe(row["id"]), row["insecure_code"], True, key)
    for number, row in enumerate(_rows(data / "sallm" / "completions_labelled.jsonl")):
        group = f"sallm/{row['id']}"
        insecure = row["label"] == "insecure"
        yield LabelledCode(f"{group}/{number}", "sallm", _cwe(row["id"]), row["code"], insecure, group)


def _anthropic(data: Path) -> Iterator[LabelledCode]:
    for row in _rows(data / "anthropic_code_backdoor_parsed" / "records.jsonl"):
        key, group = f"anthropic/{row['original_ix']}/{row['label']}", f"anthropic/{row['task']}"
        yield LabelledCode(key, "anthropic", "", row["code"], row["label"] == "insecure", group)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


SETS: dict[str, Callable[[Path], Iterator[LabelledCode]]] = {
    "sven": _sven,
    "cweval": _cweval,
    "seccodeplt": _seccodeplt,
    "securityeval": _securityeval,
    "sallm": _sallm,
    "anthropic": _anthropic,
}
"""Loaders by name."""
