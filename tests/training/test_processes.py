"""One process: its device is the one named, and a numbered GPU becomes torch's own."""

import pytest
import torch

from goodeye.training.processes import PATIENCE, is_cpu, is_main, main_process_first, of_processes, own_device


@pytest.mark.parametrize(("device", "wanted"), [("cpu", []), ("cuda", []), ("cuda:1", ["cuda:1"])])
def test_a_numbered_gpu_is_the_one_that_accelerate_finds(device, wanted, monkeypatch):
    """Accelerate puts a single process on torch's current GPU, so that `--device cuda:1` would train on cuda:0."""
    told = []
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    assert own_device(device) == device and told == wanted
    assert is_cpu(device) == (device == "cpu")


def test_one_process_is_the_main_one():
    assert is_main(cpu=True) and of_processes(cpu=True) == (1, 0)
    with main_process_first(cpu=True):
        assert PATIENCE.total_seconds() > 3600  # NCCL's own limit would end the others after 10 minutes
