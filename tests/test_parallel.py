"""Training in several processes: the same steps as in one, ends that leave nothing behind, errors told once."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
import torch
from safetensors.torch import load_file
from test_train import job, rows_for

from ostensible import parallel
from ostensible.errors import BadSettings, TrainingFailed
from ostensible.models import load_tokenizer
from ostensible.parallel import share, train_together
from ostensible.render import load_chat_format
from ostensible.settings import Machine, TrainSettings
from ostensible.train import loss_weights, train_rows


def uneven(tiny_model, folder):
    """Three steps of four rows an epoch, the last of two; six rows to validate on."""
    form = load_chat_format(load_tokenizer(tiny_model))
    small = job(tiny_model, folder, batch_pairs=2, epochs=2, checkpoint_steps=1)
    return replace(small, train=rows_for(form, 10), validation=rows_for(form, 6))


@pytest.fixture(scope="module")
def alone(tiny_model, tmp_path_factory):
    """What one process comes to."""
    folder = tmp_path_factory.mktemp("alone")
    train_together(share(uneven(tiny_model, folder), Machine(device="cpu")), say=print)
    return folder


def assert_same(folder, alone):
    curve, expected = (json.loads((one / "training/loss.json").read_text()) for one in (folder, alone))
    assert [point["step"] for point in curve] == [point["step"] for point in expected]
    assert len([point for point in curve if "loss" in point]) == 6
    for name in ("loss", "eval_loss", "grad_norm", "learning_rate"):
        ours, theirs = ([point[name] for point in points if name in point] for points in (curve, expected))
        assert ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = (load_file(one / "adapter/adapter_model.safetensors") for one in (folder, alone))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


def workers(parent=None):
    """Ranks and processes of the workers that train for a process."""
    found = {}
    for child in psutil.Process(parent).children():
        try:
            if "ostensible.parallel" in child.cmdline():
                found[int(child.environ()["RANK"])] = child
        except (psutil.Error, KeyError):
            continue  # it has just begun, or ended
    return found


def kill_second_worker(checkpoint):
    """Kill it as soon as there is a whole checkpoint."""
    while not (checkpoint / "trainer_state.json").exists():
        time.sleep(0.01)
    workers()[1].kill()


def test_two_processes_one_of_which_is_killed_resume_and_come_to_what_one_does(tiny_model, alone, tmp_path):
    machine, small = Machine(device="cpu", gpus=2), uneven(tiny_model, tmp_path)
    killer = threading.Thread(target=kill_second_worker, args=(tmp_path / "training/checkpoint-2",))
    killer.start()
    with pytest.raises(TrainingFailed, match=r"Process 1 of 2 .* exit status -9") as caught:
        train_together(share(small, machine), say=print)
    killer.join()
    assert "SIGKILL" in str(caught.value)
    assert not workers()
    assert not (tmp_path / "adapter").exists()
    before = signal.getsignal(signal.SIGTERM)
    train_together(share(small, machine), say=print)
    assert signal.getsignal(signal.SIGTERM) is before
    assert_same(tmp_path, alone)


def test_sharded_weights_come_to_what_one_process_does(tiny_model, alone, tmp_path, capfd):
    small = uneven(tiny_model, tmp_path)
    frugal = replace(small, settings=small.settings.model_copy(update={"gradient_checkpointing": True}))
    shared = share(frugal, Machine(device="cpu", gpus=2, parallel="fsdp"))
    assert shared.sharded
    train_together(shared, say=print)
    assert_same(tmp_path, alone)
    said = capfd.readouterr().err
    assert said.count("step 6/6: validation loss") == 1  # the first worker alone speaks


def test_the_error_of_a_worker_is_told_once_and_whole(tiny_model, tmp_path, capfd):
    broken = replace(uneven(tiny_model, tmp_path), processes=2, seed="not a number")
    with pytest.raises(TrainingFailed, match="Traceback") as caught:
        train_together(broken, say=print)
    assert str(caught.value).count("Input should be a valid integer") == 1
    assert "Traceback" not in capfd.readouterr().err


PARENT = """
import signal
import sys
from pathlib import Path
from ostensible import parallel
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
parallel.train_together(parallel.read_job(Path(sys.argv[1])), say=print)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tiny_model, tmp_path, ending):
    shared = share(uneven(tiny_model, tmp_path), Machine(device="cpu", gpus=2))
    command = [sys.executable, "-c", PARENT, parallel.write_job(shared, tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(found := workers(parent.pid)) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(ending)
    assert parent.wait(60) != 0
    _, alive = psutil.wait_procs(found.values(), timeout=60)
    assert not alive


@pytest.mark.parametrize("pairs", [1, 2, 4, 5])
def test_rows_that_fill_the_last_step_up_leave_its_mean_what_it_was(tiny_model, tmp_path, pairs):
    base = job(tiny_model, tmp_path, batch_pairs=pairs)
    one, two = train_rows(base), train_rows(replace(base, processes=2))
    step = 2 * pairs
    assert len(two) % step == 0
    for start in range(0, len(one), step):
        true = one[start : start + step]
        total = sum(sum(row["weights"]) for row in two[start : start + step]) / step
        assert total == pytest.approx(sum(sum(row["weights"]) for row in true) / len(true))
    assert [row["input_ids"] for row in two[: len(one)]] == [row["input_ids"] for row in one]
    assert all(set(row["weights"]) == {0.0} for row in two[len(one) :])
    assert one[0]["weights"] == loss_weights(base.train[0], base.train[1], base.settings)


def test_a_number_of_gpus_that_cannot_share_a_step_stops_at_once(tiny_model, tmp_path):
    with pytest.raises(BadSettings, match=r"6 examples \(3 pairs\), which 4 GPUs.*among 1, 2, 3, 6"):
        share(job(tiny_model, tmp_path, batch_pairs=3), Machine(device="cpu", gpus=4))
    with pytest.raises(BadSettings, match="contradict"):
        parallel.check_gpus(TrainSettings(), Machine(device="cuda:1", gpus=2))
    count = torch.cuda.device_count()
    with pytest.raises(BadSettings, match=f"this machine has {count} GPUs"):
        parallel.check_gpus(TrainSettings(batch_pairs=count + 2), Machine(gpus=count + 2))
    for machine in (Machine(device="cpu"), Machine(device="cuda", gpus=2)):
        with pytest.raises(BadSettings, match="one CUDA GPU"):
            parallel.check_gpus(TrainSettings(), machine.model_copy(update={"compile_layers": True}))


def test_a_checkpoint_of_the_other_way_of_sharing_is_not_touched(tiny_model, tmp_path):
    small = job(tiny_model, tmp_path)
    checkpoint = tmp_path / "training/checkpoint-4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "pytorch_model_fsdp.bin").write_bytes(b"")
    with pytest.raises(BadSettings, match="was made with --parallel fsdp"):
        share(small, Machine(device="cpu"))
    assert share(small, Machine(device="cpu", gpus=2, parallel="fsdp")).sharded
    (checkpoint / "pytorch_model_fsdp.bin").unlink()
    with pytest.raises(BadSettings, match="was made with --parallel ddp, or on one GPU"):
        share(small, Machine(device="cpu", gpus=2, parallel="fsdp"))
    assert not share(small, Machine(device="cpu", gpus=2)).sharded


def test_the_size_of_a_models_weights_is_known_without_loading_them(tiny_model):
    on_disk = load_file(tiny_model / "model.safetensors")
    assert parallel.weight_bytes(tiny_model, "bfloat16") == 2 * sum(weight.numel() for weight in on_disk.values())
