"""What the verdict says of networks whose truth is known: few sentences, and none that the figures do not support."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers import shown

from cnn_compare.report.intervals import Estimate
from cnn_compare.report.order import standings, time_ratios
from cnn_compare.report.pairs import Question
from cnn_compare.report.verdict import tiers, verdict
from cnn_compare.times import Times


@pytest.fixture
def summary(tmp_path):
    return lambda **question: shown(tmp_path, **question)


@pytest.fixture
def made_up(store_run, summary):
    """Networks in the order of accuracy and their pairs, a random share of which is established."""
    for name, right in (("a", 800), ("b", 790)):
        for seed in range(3):
            store_run(name, seed, right=range(right + seed))
    found = summary()
    network, pair = found.networks[0], found.pairs[0]

    def make(count, seed=0, share=0.4):
        draw = np.random.default_rng(seed)
        networks = [replace(network, name=f"n{number}") for number in range(count)]
        pairs = [
            replace(pair, first=a.name, second=b.name, differs=bool(draw.random() < share))
            for a, b in itertools.combinations(networks, 2)
        ]
        return networks, pairs

    return make


@pytest.mark.parametrize("count", [1, 2, 4, 8, 26])
def test_at_most_five_sentences_say_it_and_every_network_stands_in_the_order(made_up, count):
    questions = [Question(), Question(margin=1.0), Question(baseline="n0"), Question(limits={"params": 12e6})]
    for question, share in itertools.product(questions, (0, 0.4, 1)):
        networks, pairs = made_up(count, share=share)
        if question.baseline:
            pairs = [pair for pair in pairs if question.baseline in (pair.first, pair.second)]
        ratios = time_ratios({each.name: [1.0 + n, 1.1 + n, 1.05 + n] for n, each in enumerate(networks)}, True)
        said = verdict(networks, pairs, question, ratios)
        assert 1 <= len(said) <= 5
        assert all(sentence.endswith(".") and ". " not in sentence for sentence in said)
        assert not any(wrong in sentence for sentence in said for wrong in ("  ", " ;", "None", ": ;"))
        if count > 2 and not question.baseline and not question.limits and share:
            order = said[1].replace(";", ",").replace(":", ",").replace(" then", "")
            assert all(f" n{number}," in order for number in range(count))


@pytest.mark.parametrize("seed", range(5))
def test_no_difference_within_a_tier_is_established_and_tiers_follow_the_order_of_accuracy(made_up, seed):
    # Any relation that goes down in accuracy, also one that is not transitive, as unequal variances give.
    networks, pairs = made_up(7, seed)
    groups = tiers(networks, pairs)
    assert [name for group in groups for name in group] == [network.name for network in networks]
    assert not any(pair.differs for pair in pairs for group in groups if {pair.first, pair.second} <= set(group))
    for before, group in itertools.pairwise(groups):  # No tier begins without a reason.
        assert any(pair.differs for pair in pairs if pair.first in before and pair.second == group[0])


def test_what_is_open_across_tiers_is_said(store_run, summary):
    # a and b, b and c cannot be told apart; a and c can.
    store_run("a", right=range(800))
    store_run("b", right=[*range(760), *range(800, 826)])
    store_run("c", right=[*range(740), *range(800, 826)])
    found = summary()
    assert [pair.differs for pair in found.pairs] == [False, True, True]
    assert (
        found.verdict[1] == "In order of accuracy: a, b; then c; every difference between these tiers is established."
    )
    store_run("c", right=[*range(695), *range(800, 870)])
    found = summary()
    assert [pair.differs for pair in found.pairs] == [False, True, False]
    assert found.verdict[1] == "In order of accuracy: a, b; then c; between these tiers, only a − c is established."


def test_intervals_of_more_than_20_points_say_nothing(store_run, summary):
    for seed, (a, b) in enumerate([(900, 500), (500, 900)]):
        store_run("a", seed, right=range(a + 10))
        store_run("b", seed, right=range(b))
    said = summary().verdict[0]
    assert "2 seeds say nothing here" in said
    assert "With 4 seeds, only true differences of more than 20 points would be established" in summary().verdict[2]
    assert summary().tables["differences"].rows[0][-1] == "says nothing"
    for seed, right in enumerate([200, 900]):
        store_run("c", seed, right=range(right))
    assert (
        summary().verdict[1].startswith("2 seeds say nothing here: the interval of every difference is wider than 20")
    )


def only_one_class(labels):
    return np.flatnonzero(labels == 0)


@pytest.mark.parametrize("shares", [None, [0.9, 0.1]])
def test_a_network_that_learned_nothing_is_said_first_and_takes_no_part_in_the_order(
    store_run, summary, tmp_path, shares
):
    labels = np.arange(1000) % 10 if shares is None else (np.arange(1000) % 10 == 0).astype(int)
    draw = np.random.default_rng(0)
    store_run("good", right=np.flatnonzero(draw.random(1000) < 0.95), labels=labels)
    store_run("fair", right=np.flatnonzero(draw.random(1000) < 0.8), labels=labels)
    # It answers one class, whose share is 10 % or 90 %.
    store_run("dead", right=only_one_class(labels), labels=labels)
    rounds = {"good": [4.0, 4.1, 4.0], "fair": [4.0, 4.1, 3.9], "dead": [1.0, 1.0, 1.1]}
    Times(rounds, "cpu: this one", False, "2026-01-02T03:04:05+00:00").save(tmp_path)
    found = summary()
    assert found.verdict[0].startswith("dead learned nothing (no better than guessing); without it, good is the most")
    assert not any("dead" in sentence for sentence in found.verdict[1:])
    dead = next(network for network in found.networks if network.name == "dead")
    assert (dead.at_chance, dead.on_front, dead.dominated_by) == (True, None, None)
    for name in ("good", "fair"):
        store_run(name, right=only_one_class(labels), labels=labels)
    (only,) = summary().verdict
    assert "learned nothing (no better than guessing): there is nothing to compare. A lower learning rate" in only


def test_seeds_that_learned_nothing_are_a_warning_where_others_of_the_network_did(store_run, summary):
    for seed in range(3):
        store_run("a", seed, right=range(800))
        store_run("b", seed, right=range(700) if seed else range(100))
    found = summary()
    assert not any(network.at_chance for network in found.networks)
    assert "runs that learned nothing: b (1 of 3); the mean accuracy counts them" in found.warnings


def test_networks_are_ordered_by_what_is_established_alone():
    accuracies = {"a": 90.0, "b": 89.5, "c": 80.0, "d": 79.0}
    seconds = {"a": 4.20, "b": 4.03, "c": 1.0, "d": 1.1}
    # Times of a and b overlap, and so do those of c and d.
    rounds = {"a": [4.0, 4.4, 4.2], "b": [4.2, 4.0, 3.9], "c": [1.0, 1.1, 0.9], "d": [1.1, 1.0, 1.2]}
    ratios = time_ratios(rounds, in_turns=True)
    far = {(first, second) for first in "ab" for second in "cd"}
    found = standings(accuracies, seconds, far, ratios)
    assert found["a"].unordered == ["b"]
    assert found["b"].unordered == ["a"]
    assert found["c"].unordered == ["d"]  # Neither lead of c over d is established: d is not dominated.
    assert [found[name].dominated_by for name in "abcd"] == [None] * 4
    found = standings(accuracies, seconds, far | {("c", "d"), ("a", "b")}, ratios)
    assert found["d"].dominated_by == "c"
    assert found["c"].on_front
    assert found["a"].on_front
    assert found["b"].unordered == ["a"]  # Less accurate, and not established as faster.


def test_ratios_of_more_networks_have_wider_intervals():
    rounds = {name: [1.0 * number, 1.1 * number, 1.2 * number] for number, name in enumerate("abcdef", start=1)}
    rounds["a"] = [1.0, 1.3, 1.1]
    two = time_ratios({name: rounds[name] for name in "ab"}, in_turns=True)["a", "b"]
    six = time_ratios(rounds, in_turns=True)["a", "b"]
    assert six.low < two.low < two.high < six.high
    assert time_ratios({"a": [1.0], "b": [2.0, 2.1]}, in_turns=False) == {}
    apart = time_ratios({"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1]}, in_turns=False)["b", "a"]
    assert isinstance(apart, Estimate)
    assert apart.low < 2 < apart.high
