"""Seconds and memory of parts, by what is known of them: sleeps, and tensors of a known size."""

import sys
import time
from mmap import mmap

import pytest
import torch
from torch import nn

from goodeye.meter import Meter, reset_peak

CPU = torch.device("cpu")
MB = 1_000_000


def test_seconds_and_calls_of_parts_within_parts():
    meter = Meter(CPU)
    with meter.part("whole"):
        for _ in range(3):
            with meter.part("nap"):
                time.sleep(0.02)
    parts = meter.take()
    assert list(parts) == ["whole", "nap"] and not meter.parts
    assert parts["nap"].calls == 3 and parts["nap"].seconds >= 0.06 and parts["nap"].each >= 0.02
    assert parts["whole"].seconds >= parts["nap"].seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of each part need Linux")
def test_the_peak_is_of_the_part_alone_and_of_those_around_it():
    meter = Meter(CPU)
    with meter.part("around"):
        with meter.part("large"):
            held = mmap(-1, 200 * MB)  # malloc may have that much at hand, after other tests
            held.write(bytes(200 * MB))
        held.close()
        with meter.part("small"):
            torch.ones(1)
    parts = meter.take()
    assert parts["large"].peak - parts["small"].peak > 150 * MB
    assert parts["around"].peak >= parts["large"].peak > parts["small"].peak > 10 * MB


def test_a_watched_network_is_a_part_and_apart_with_gradient():
    meter, network = Meter(CPU), nn.Linear(4, 4)
    meter.watch("net", network)
    with torch.no_grad():
        network(torch.ones(1, 4))
    network(torch.ones(1, 4))
    network(torch.ones(1, 4))
    assert {name: part.calls for name, part in meter.take().items()} == {"net": 1, "net, with gradient": 2}


def test_a_network_that_fails_leaves_no_part_open():
    meter, network = Meter(CPU), nn.Linear(4, 4)
    meter.watch("net", network)
    with pytest.raises(RuntimeError):
        network(torch.ones(1, 3))
    with meter.part("after"):
        pass
    assert [part.calls for part in meter.take().values()] == [1, 1]


def test_a_peak_is_at_least_what_is_in_use():
    held = torch.ones(50 * MB, dtype=torch.uint8)
    reset_peak(CPU)
    assert reset_peak(CPU) > held.numel()
