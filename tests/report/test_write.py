from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from helpers import Shown, run_command, run_result

from cnn_compare import load_results, write_report
from cnn_compare.errors import NoRunsError
from cnn_compare.formatting import format_count, format_p
from cnn_compare.results import RunFolder


def store(folder, backbone="resnet18", seed=0, **fields):
    figures = {"test_acc_pct": 80.0, "test_images": 10_000, "best_val_acc_pct": 81.0, "train_epoch_s": 5.0}
    figures |= {"first_epoch_s": 9.0, "images_per_s": 1000.0, "params": 11_181_642, "macs": 1_800_000_000}
    figures |= {"training_memory_bytes": 2**30, "data_fingerprint": "ab"}
    folder = folder / backbone.replace("|", "_").replace("<", "_").replace("/", "_") / f"seed_{seed}"
    RunFolder(folder).save_result(run_result(backbone=backbone, seed=seed, **{**figures, **fields}))


def test_the_headline_time_is_the_median_without_the_first_epoch(tmp_path):
    store(tmp_path)
    assert load_results(tmp_path).train_epoch_s.tolist() == [5.0]
    csv = pd.read_csv(write_and_find(tmp_path, "results.csv"))
    assert csv.loc[0, ["backbone", "seed", "status", "test_acc_pct", "train_epoch_s", "params", "macs"]].tolist() == [
        *("resnet18", 0, "finished", 80.0, 5.0, 11_181_642, 1_800_000_000)
    ]


def write_and_find(folder, name):
    write_report(folder)
    return folder / name


def test_one_seed_carries_the_sampling_error_and_several_their_deviation(tmp_path):
    store(tmp_path)
    # 1.96 * sqrt(0.8 * 0.2 / 10,000) = 0.784 points.
    assert "| resnet18 | 1 | 80.00 ± 0.78 |" in write_and_find(tmp_path, "report.md").read_text()
    store(tmp_path, seed=1, test_acc_pct=82.0)
    # The sample's deviation of 80 and 82.
    assert "| resnet18 | 2 | 81.00 ± 1.41 |" in write_and_find(tmp_path, "report.md").read_text()


def test_a_run_without_a_result_and_a_failed_one_are_listed_with_their_reasons(tmp_path):
    store(tmp_path, backbone="vgg16", status="failed", reason="RuntimeError: out of\nmemory", test_acc_pct=None)
    (tmp_path / "alexnet" / "seed_0").mkdir(parents=True)
    (tmp_path / "alexnet" / "seed_0" / "config.yaml").write_text("{}")
    text = write_and_find(tmp_path, "report.md").read_text()
    assert "| vgg16/seed_0 | RuntimeError: out of memory |" in text
    assert "| alexnet/seed_0 | not finished; the same command again goes on with it |" in text
    assert "0 of 2 runs are finished (1 failed, 1 not finished); networks without a finished run: vgg16." in text


def test_names_stay_text_in_markdown(tmp_path):
    store(tmp_path, backbone="<script>|x")
    assert "| &lt;script>\\|x | 1 |" in write_and_find(tmp_path, "report.md").read_text()


PUBLISHED = {
    "source": "a paper",
    "conditions": [
        {"what": "epochs", "published": "90", "setting": "trainer.max_epochs"},
        {"what": "torch", "published": "1.0", "field": "versions.torch"},
        {"what": "split", "published": "unknown", "here": "test set"},
    ],
    "figures": {"resnet18": {"test_acc_pct": 79.14, "train_epoch_s": 17}},
}


def test_published_figures_of_the_manifest_stand_beside_the_networks_own(tmp_path):
    store(tmp_path, versions={"torch": "2.15.0"})
    store(tmp_path, backbone="lenet")
    manifest = {"name": "x", "config": {"trainer": {"max_epochs": 3}}, "published": PUBLISHED}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    text = write_and_find(tmp_path, "report.md").read_text()
    assert "| network | test acc. % | published | s / epoch | published |" in text
    assert "| resnet18 | 80.00 | 79.14 | 5 | 17 |" in text
    assert "| lenet | 80.00 |" not in text
    assert "Published: a paper." in text
    for row in ("| epochs | 3 | 90 |", "| torch | 2.15.0 | 1.0 |", "| split | test set | unknown |"):
        assert row in text


@pytest.mark.parametrize(
    "published", [[], "text", {"source": "a paper"}, {**PUBLISHED, "figures": {"resnet18": {"test_acc_pct": "x"}}}]
)
def test_damaged_published_figures_are_listed_and_the_rest_is_reported(tmp_path, published):
    store(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "x", "published": published}))
    text = write_and_find(tmp_path, "report.md").read_text()
    assert "manifest.json | its published figures cannot be read" in text
    assert "| resnet18 | 1 | 80.00" in text


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("missing", "there is no such folder"),
        ("empty", "the folder holds no result.json"),
        ("file", "it is a file, not a folder"),
        ("fits", "2 of `fit`, without a result.json. `fit` measures no test accuracy: `cnn-compare test` does"),
    ],
)
def test_a_folder_without_runs_is_refused_with_the_reason_and_the_way_out(tmp_path, where, reason):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for version in ("version_0", "version_1"):
        (tmp_path / "fits" / version).mkdir(parents=True)
        (tmp_path / "fits" / version / "config.yaml").write_text("model: {backbone: lenet}")
    with pytest.raises(NoRunsError, match=re.escape(f"no run to report on in {tmp_path / where}: {reason}")):
        write_report(tmp_path / where)


def test_a_run_of_fit_beside_a_comparison_is_listed_and_not_called_unfinished(tmp_path):
    store(tmp_path)
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "config.yaml").touch()
    found = Shown(write_report(tmp_path))
    (entry,) = (entry for entry in found.without_result if "version" in entry["run"])
    assert entry["run"] == "version_0"
    assert entry["reason"].startswith("a run of `fit`")
    assert found.unfinished is None


@pytest.mark.parametrize("failed", [0, 2])
def test_the_reason_of_failed_runs_is_printed_once(tmp_path, capsys, failed):
    store(tmp_path)
    for seed in range(failed):
        store(tmp_path, backbone="vgg16", seed=seed, status="failed", reason="out of memory", test_acc_pct=None)
    status, out, _ = run_command(["report", str(tmp_path)], capsys)
    assert status == 0
    assert out.count("out of memory") == (1 if failed else 0)
    assert ("vgg16/seed_0 and vgg16/seed_1: out of memory" in out) == bool(failed)


@pytest.mark.parametrize(
    ("number", "text"), [(11_173_962, "11.2 M"), (1.82e9, "1.82 G"), (61_706, "61.7 k"), (12, "12"), (None, "–")]
)
def test_large_numbers_are_shortened(number, text):
    assert format_count(number) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0221, "0.022"), (1.0, "1"), (4e-143, "< 0.0001"), (0.0, "< 0.0001"), (None, "–")]
)
def test_a_p_value_too_small_to_have_digits_is_not_shown_as_nought(p, text):
    assert format_p(p) == text


def test_validation_far_below_training_at_first_is_a_warning_of_that_network(tmp_path):
    for backbone, validation in (("sound", 0.3), ("lagging", 0.1)):
        store(tmp_path, backbone=backbone)
        curve = f"epoch,train/acc,val/acc\n0,0.34,{validation}\n1,0.4,0.39\n"
        (tmp_path / backbone / "seed_0" / "metrics.csv").write_text(curve)
    text = write_and_find(tmp_path, "report.md").read_text()
    assert "validation far below training at the first epochs: lagging (10 % beside 34 % in epoch 1)." in text
    assert "sound: validation" not in text


def printed_lines(folder, capsys, monkeypatch, *options):
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = run_command(["report", str(folder), *options], capsys)
    return output.splitlines()


def test_the_terminal_shows_the_table_then_the_answer_and_three_reasons_at_most_then_each_kind_of_warning_in_a_line(
    tmp_path, capsys, monkeypatch
):
    names = [f"my_package.networks:a_network_with_a_long_name_{number}" for number in range(6)]
    for number, name in enumerate(names):
        store(tmp_path, name, test_acc_pct=50.0 + number, device=f"device {number % 2}", contended=number < 3)
        store(tmp_path, name, seed=1, test_acc_pct=51.5 + number, precision=f"precision {number % 2}")
    lines = printed_lines(tmp_path, capsys, monkeypatch)
    table = max(number for number, line in enumerate(lines) if line.startswith("└"))
    assert lines[table + 1] == ""
    assert lines[table + 2].startswith(f"{names[5]} ")
    care = next(number for number, line in enumerate(lines) if line.startswith("read with care (5;"))
    assert 1 <= sum(line.startswith("- ") for line in lines[:care]) <= 3
    kinds = [line.split(":")[0] for line in lines[care + 1 : care + 6]]
    assert kinds[:4] == ["- mixed devices", "- mixed precisions", "- contended", "- the file is missing (3)"]
    assert kinds[4].startswith("- The intervals do not cover")
    assert lines[care + 6] == f"report: {tmp_path / 'report.html'}"


def test_no_word_is_broken_at_80_columns(tmp_path, capsys, monkeypatch):
    names = [f"my_nets:network_with_a_long_name_{number}" for number in range(6)]
    for number, name in enumerate(names):
        store(tmp_path, name, test_acc_pct=50.0 + number, contended=True)
    lines = printed_lines(tmp_path, capsys, monkeypatch)[:-1]  # The last one is a path, to be copied as a whole.
    assert max(map(len, lines)) <= 80
    words = [word.strip(" :;,.│") for line in lines for word in line.split()]
    assert {word for word in words if word.startswith(("my_nets", "network_with"))} <= set(names)
    assert sum(name in line for line in lines for name in names) >= 2 * len(names)


def test_after_one_seed_the_next_command_asks_for_three_and_after_a_stop_for_the_same_again(
    tmp_path, capsys, monkeypatch
):
    command = "cnn-compare compare --config mine.yaml"
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "mine", "command": command}))
    store(tmp_path)
    assert printed_lines(tmp_path, capsys, monkeypatch)[-1] == f"next: {command} --seeds '[0,1,2]'"
    (tmp_path / "lenet" / "seed_0").mkdir(parents=True)
    (tmp_path / "lenet" / "seed_0" / "config.yaml").write_text("{}")
    assert printed_lines(tmp_path, capsys, monkeypatch)[-1] == f"next: {command}"


def test_after_several_seeds_the_next_command_uses_the_best_network_where_its_weights_are(
    tmp_path, capsys, monkeypatch
):
    for seed in range(2):
        store(tmp_path, seed=seed)
    assert printed_lines(tmp_path, capsys, monkeypatch)[-1].startswith("report: ")
    (tmp_path / "resnet18" / "seed_1" / "checkpoints").mkdir()
    assert printed_lines(tmp_path, capsys, monkeypatch)[-1] == f"next: cnn-compare predict {tmp_path} PICTURES"
