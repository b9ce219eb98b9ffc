"""Exponential means of weights."""

from __future__ import annotations

import torch
from torch import nn

from slic_cli.training.average import Average


def scalar(value: float) -> nn.Linear:
    """A network whose only parameter is `value`."""
    network = nn.Linear(1, 1, bias=False)
    set_weight(network, value)
    return network


def set_weight(network: nn.Linear, value: float) -> None:
    with torch.no_grad():
        network.weight.fill_(value)


def test_a_mean_follows_its_decay() -> None:
    network = scalar(0.0)
    average = Average(network, 0.5)
    for step, value in enumerate((1.0, 2.0, 4.0), 1):
        set_weight(network, value)
        average.update(step)
    # Early steps weigh 9 / (10 + step), as long as that is more than 1 - 0.5.
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0), 1):
        expected += (value - expected) * max(0.5, 9 / (10 + step))
    assert abs(average.state_dict()["weight"].item() - expected) < 1e-6
    assert network.weight.item() == 4.0


def test_late_steps_weigh_one_minus_the_decay() -> None:
    network = scalar(0.0)
    average = Average(network, 0.9)
    set_weight(network, 1.0)
    average.update(1000)
    assert abs(average.state_dict()["weight"].item() - 0.1) < 1e-6


def test_the_network_shows_its_mean_for_a_while_or_for_good() -> None:
    network = scalar(0.0)
    average = Average(network, 0.9)
    set_weight(network, 1.0)
    average.update(1000)
    with average.shown():
        assert abs(network.weight.item() - 0.1) < 1e-6
    assert network.weight.item() == 1.0
    average.settle()
    assert abs(network.weight.item() - 0.1) < 1e-6


def test_without_decay_it_is_the_network_itself() -> None:
    network = scalar(0.0)
    average = Average(network, 0.0)
    set_weight(network, 3.0)
    average.update(1)
    average.settle()
    with average.shown():
        assert network.weight.item() == average.state_dict()["weight"].item() == 3.0
