from __future__ import annotations

import functools
import itertools
import json
import math
import shutil

import numpy as np
import plotly.graph_objects as go
import pytest
from helpers import Shown, shown
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG as EXPERIMENT
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG as SESSION
from tensorboard.plugins.hparams.metadata import parse_experiment_plugin_data, parse_session_start_info_plugin_data

from cnn_compare import write_report
from cnn_compare.pictures import HeatMap, Leaked, ReportPictures, labels_digest, small_picture
from cnn_compare.report.answers import Answers
from cnn_compare.report.load import find_runs
from cnn_compare.times import Times

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is called chromium")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without its sandbox, which containers do not let it have; the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def comparison(store_in, tmp_path_factory):
    """Three networks, two seeds, and a name that is a script."""
    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("comparison")
    for seed in (0, 1):
        for rank, name in enumerate(("resnet18", "lenet", "alexnet")):
            right = np.flatnonzero(draw.random(1000) < 0.85 - 0.1 * rank)
            store_in(root, name, seed, right=right, train_epoch_s=20.0 / (rank + 1), params=10 ** (7 - rank))
    folder = store_in(root, "evil", right=range(500), train_epoch_s=30.0, data={"warnings": ["1 file is left out"]})
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace('"evil"', f'"{HOSTILE}"').replace("shortcuts", HOSTILE))
    answers = Answers.of(find_runs(root).finished)
    hardest = answers.hardest()
    seen = {image: small_picture(draw.integers(0, 256, (32, 32, 3), np.uint8), 96) for image in hardest}
    heat = {image: HeatMap(small_picture(draw.integers(0, 256, (96, 96, 3), np.uint8), 96), 7) for image in hardest}
    names = dict.fromkeys(hardest, f"{HOSTILE}{40 * 'long'}.png")
    leaked, maps = Leaked([], [*range(20)], True), dict.fromkeys(("resnet18", "lenet", "alexnet", HOSTILE), heat)
    ReportPictures(labels_digest(answers.labels), names, seen, leaked, [], maps, [HOSTILE]).save(root)
    write_report(root)
    return root


@pytest.fixture(scope="module")
def open_page(browser, comparison):
    """Open the report; what went wrong or left the machine is in its ``noise``."""
    contexts = []

    def open_(width=1280, theme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme))
        page = contexts[-1].new_page()
        page.noise = []
        page.on("console", lambda message: page.noise.append(message.text))
        page.on("pageerror", lambda error: page.noise.append(str(error)))
        page.on("dialog", lambda dialog: (page.noise.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda r: page.noise.append(r.url) if r.url.startswith(("http", "ws")) else None)
        page.goto((comparison / "report.html").as_uri())
        page.wait_for_selector("html[data-drawn=true]")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page_of(open_page):
    """The page in a width, a theme and perhaps with all its parts unfolded, for tests that change nothing on it."""

    @functools.cache
    def page(width=1280, theme="light", unfolded=False):
        page = open_page(width, theme)
        if unfolded:
            page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
            page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg'))")
        return page

    return page


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page_of, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page_of(1280, theme, True)).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


@needs_browser
def test_the_answer_and_the_leaderboard_are_on_the_first_screen(page_of):
    for width in (1280, 390):
        page = page_of(width)
        for part in (".answer", "#t-answer tbody tr:first-child", "#t-answer tbody tr:last-child"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] < 900, (width, part)
    assert page.noise == []


@needs_browser
def test_warnings_and_long_parts_are_folded_and_a_link_opens_its_part(open_page):
    page = open_page()
    warnings = page.locator("details.warnings")
    assert "Read with care (" in warnings.locator("summary").inner_text()
    assert not warnings.locator("li").first.is_visible()
    for key in ("loss", "calibration", "costs", "networks"):
        assert page.locator(f"#{key}").get_attribute("open") is None
    page.locator("nav a", has_text="Costs").click()
    page.locator("#plot-costs svg").first.wait_for()
    assert page.locator("nav").bounding_box()["y"] == pytest.approx(0, abs=1)  # It stays.
    assert page.noise == []


@needs_browser
def test_the_mistakes_of_the_chosen_network_alone_are_shown(browser, store_run, tmp_path):
    labels = np.arange(600) % 60
    for name in ("lenet", "alexnet"):
        store_run(name, right=range(60 if name == "lenet" else 300, 600), labels=labels)
    write_report(tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    rows = page.locator("#t-confusion tbody tr:visible th")
    assert set(rows.all_inner_texts()) == {"lenet"}
    page.locator("[data-rows=confusion]").select_option(label="alexnet")
    assert set(rows.all_inner_texts()) == {"alexnet"}
    page.close()


@needs_browser
def test_no_name_beside_a_mark_is_cut_on_a_phone(page_of):
    page = page_of(390)
    chart = page.locator("#plot-answer").bounding_box()
    for name in page.locator("#plot-answer .textpoint text").all():
        box = name.bounding_box()
        if HOSTILE not in name.text_content():  # It is longer than the chart is wide on either side.
            assert chart["x"] <= box["x"]
            assert box["x"] + box["width"] <= chart["x"] + chart["width"]


@needs_browser
def test_a_table_is_copied_as_latex_markdown_and_csv(open_page):
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = {}
    for button in page.locator("[data-copy=answer]").all():
        name = button.inner_text()
        button.click()
        page.wait_for_function("(button) => button.textContent === 'Copied'", arg=button.element_handle())
        copied[name] = page.evaluate("navigator.clipboard.readText()")
    assert copied["LaTeX"].startswith("\\begin{tabular}{l")
    assert copied["Markdown"].startswith("| network |")
    assert copied["CSV"].startswith("network,test acc. %")
    assert page.noise == []


@needs_browser
@pytest.mark.parametrize("format", ["SVG", "PNG"])
def test_a_chart_is_saved_as_a_picture(page_of, format):
    page = page_of(1280, "dark", True)
    with page.expect_download() as download:
        page.locator("[data-save=answer]", has_text=format).click()
    assert download.value.suggested_filename.endswith(f"-answer.{format.lower()}")


@needs_browser
def test_every_chart_is_drawn_and_nothing_is_asked_of_the_network(page_of):
    page = page_of(1280, "light", True)
    assert page.locator(".plot").count() == 8
    for plot in page.locator(".plot").all():
        plot.locator("svg.main-svg").first.wait_for()
        assert plot.locator("svg.main-svg").count() > 0
        assert plot.get_attribute("aria-label").startswith("Chart: ")
    assert page.locator("#plot-answer .scatterlayer .points path").count() >= 4
    assert page.locator("#plot-differences .heatmaplayer image, #plot-differences .hm").count() > 0
    assert page.noise == []


@needs_browser
def test_a_training_that_diverged_is_drawn_as_far_as_it_has_numbers(browser, store_run, tmp_path):
    folder = store_run("diverged", test_loss=float("nan"))
    (folder / "metrics.csv").write_text("epoch,val/acc,val/loss,time/train_epoch_s\n0,0.2,1.0,5.0\n1,nan,inf,5.0\n")
    write_report(tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn=true]")
    assert page.locator("#plot-curves .scatterlayer .points path").count() == 1
    page.close()


@needs_browser
def test_the_names_of_marks_that_lie_close_together_do_not_touch(browser, store_run, tmp_path):
    for index, name in enumerate(("googlenet", "mobilenet_v2", "densenet121")):
        store_run(name, right=range(800 + index), train_epoch_s=20.0 + index)
    store_run("lenet", right=range(500), train_epoch_s=1.0)
    write_report(tmp_path)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn=true]")
    boxes = [name.bounding_box() for name in page.locator("#plot-answer .textpoint text").all()]
    page.close()
    assert len(boxes) == 4
    for first, second in itertools.combinations(boxes, 2):
        beside = any(
            first[start] + first[size] <= second[start] or second[start] + second[size] <= first[start]
            for start, size in (("x", "width"), ("y", "height"))
        )
        assert beside, (first, second)


@needs_browser
def test_a_name_that_is_a_script_stays_text(page_of):
    page = page_of(1280)
    assert HOSTILE in page.locator("#t-results").inner_text()
    assert HOSTILE in page.locator("#t-networks").text_content()
    assert HOSTILE in "".join(page.locator("#plot-answer text").all_text_contents())
    assert page.noise == []


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_hard_images_are_seen_with_the_heat_map_of_every_network_beside_them(page_of, width):
    page = page_of(width)
    cards = page.locator("#t-hardest article")
    assert cards.count() == 10
    pictures = cards.first.locator("img")
    assert pictures.count() == 5
    for picture in pictures.all():
        assert picture.evaluate("(img) => img.complete && img.naturalWidth > 0")
        box = picture.bounding_box()
        assert (box["width"], box["height"]) == (96, 96)
        assert 0 <= box["x"] <= width - 96
    assert HOSTILE in cards.first.inner_text()
    assert page.noise == []


@needs_browser
def test_the_table_sorts_by_any_column_both_ways_and_by_keyboard(open_page):
    page = open_page()
    heading = page.locator("#t-results thead th", has_text="s / epoch")

    def order():
        return page.locator("#t-results tbody th").all_inner_texts()

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert order() == ["alexnet", "lenet", "resnet18", HOSTILE]
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert order() == [HOSTILE, "resnet18", "lenet", "alexnet"]
    page.locator("#t-results thead button").first.click()
    assert order() == sorted(order(), key=str.casefold)


@needs_browser
def test_the_theme_is_the_readers_and_can_be_changed(open_page, page_of):
    def brightness(page):
        colors = page.evaluate("['backgroundColor', 'color'].map((c) => getComputedStyle(document.body)[c])")
        return [sum(int(part) for part in color[4:-1].split(",")) for color in colors]

    light, dark = page_of(1280), open_page(theme="dark")
    for page, is_dark in ((light, False), (dark, True)):
        paper, ink = brightness(page)
        assert (paper < ink) is is_dark
    label = dark.locator("#plot-answer .xtitle").evaluate("(e) => getComputedStyle(e).fill")
    assert sum(int(part) for part in label[4:-1].split(",")) > 500
    dark.locator("#theme").click()
    paper, ink = brightness(dark)
    assert paper > ink
    assert light.noise + dark.noise == []


@needs_browser
@pytest.mark.parametrize("width", [390, 820, 1600])
def test_nothing_scrolls_sideways(page_of, width):
    page = page_of(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for plot in page.locator(".plot svg.main-svg").all():
        box = plot.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1


@needs_browser
def test_another_networks_confusion_is_shown_on_choice(open_page):
    page = open_page()

    def cells():
        return page.locator("#plot-confusion .heatmap-label").all_text_contents()

    before = cells()
    page.locator("[data-chart=confusion]").select_option(label="alexnet")
    page.wait_for_function(
        "(old) => document.querySelector('#plot-confusion').textContent !== old", arg="".join(before)
    )
    assert cells() != before


@needs_browser
def test_it_prints_in_light_on_a_few_pages(open_page, tmp_path):
    page = open_page(theme="dark")
    page.pdf(path=tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 1 <= content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") <= 15


def test_eight_networks_with_three_seeds_stay_under_six_megabytes(store_run, tmp_path):
    for network in range(8):
        for seed in range(3):
            store_run(f"net{network}", seed, right=range(500 + 40 * network + seed))
    write_report(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 6e6


def test_every_chart_is_valid_to_plotly(store_run, tmp_path):
    for seed in (0, 1):
        store_run("a", seed, right=range(800 + seed), energy_j_per_epoch=5.0)
        store_run("b", seed, right=range(700 - seed), train_epoch_s=400.0)
    milliseconds = {"a": [1.0, 1.1], "b": [20.0, 21.0]}
    Times({"a": [5.0, 5.1], "b": [400.0, 401.0]}, "cpu", False, "2026-01-02", milliseconds).save(tmp_path)
    made = {key: section.chart.figures for key, section in shown(tmp_path).sections.items() if section.chart}
    front, a, b = made["answer"]["a prediction"]["data"]
    assert (front["x"], len(a["x"]), len(b["x"])) == (a["x"], 1, 1)  # The slower and less accurate one is not on it.
    assert (a["x"][0], b["x"][0]) == pytest.approx((math.sqrt(1.1), math.sqrt(420)))
    assert set(made) == {
        *("answer", "differences", "curves", "loss", "classes", "confusion", "calibration", "costs"),
    }
    assert list(made["answer"]) == ["training", "a prediction"]
    assert list(made["curves"]) == ["epochs", "seconds"]
    assert list(made["costs"]) == ["s / epoch", "ms / prediction", "params", "MACs", "memory", "J / epoch"]
    for figures in made.values():
        for figure in figures.values():
            go.Figure(figure)  # Raises for anything that plotly does not know.


def test_tensorboard_finds_our_curves_and_a_row_of_settings_under_readable_names(trained_once):
    """As its server reads them for its page."""
    found = EventMultiplexer().AddRunsFromDirectory(str(trained_once)).Reload()
    names = {f"{backbone}/seed_{seed}": backbone for backbone in ("lenet", "lenet_relu") for seed in (0, 1)}
    assert found.Runs().keys() == names.keys()
    for run, tags in found.Runs().items():
        assert {"val/acc", "final/test_acc_pct"} <= {*tags["scalars"]}
        heading, row = (found.SummaryMetadata(run, tag).plugin_data.content for tag in (EXPERIMENT, SESSION))
        assert "final/test_acc_pct" in {each.name.tag for each in parse_experiment_plugin_data(heading).metric_infos}
        settings = parse_session_start_info_plugin_data(row).hparams
        assert (settings["backbone"].string_value, settings["recipe"].string_value) == (names[run], "none")


def test_a_thousand_classes_and_names_of_eighty_characters_fit_a_small_page(store_run, tmp_path):
    labels = np.arange(3000) % 1000
    names = [f"{index} {'a long name ' * 6}" for index in range(1000)]
    network = "module_of_mine:" + "n" * 65
    for name, wrong in ((network, 7), ("lenet", 8)):
        right = [index for index in range(3000) if labels[index] != wrong]
        store_run(name, right=right, labels=labels, class_names=names)
    found = Shown(write_report(tmp_path))
    page = (tmp_path / "report.html").read_text()
    drawn = {key: section.chart.figures for key, section in found.sections.items() if section.chart}
    figures = json.dumps([*drawn.values()])
    assert len(figures) < 200_000
    assert len(page) < 4_000_000
    assert sum((tmp_path / name).stat().st_size for name in ("report.md", "results.json")) < 1_000_000
    assert "confusion" not in drawn
    assert len(drawn["classes"][""]["data"][0]["x"]) == 25
    assert drawn["classes"][""]["data"][0]["x"][:2] == [names[7], names[8]]
    assert max(map(len, drawn["classes"][""]["layout"]["yaxis"]["ticktext"])) <= 28
    labels = drawn["differences"][""]["layout"]["yaxis"]["ticktext"]
    assert sorted(labels) == ["lenet", f"{'n' * 14}…{'n' * 13}"]
    assert found.mistakes[network] == [{"label": 7, "answer": 8, "share_pct": 100.0}]
    assert "## The commonest mistakes" in (tmp_path / "report.md").read_text()


def test_every_chart_counts_epochs_from_one(comparison):
    sections = shown(comparison).sections
    for figure in (sections["curves"].chart.figures["epochs"], sections["loss"].chart.figures[""]):
        assert {tuple(line["x"][:3]) for line in figure["data"] if line.get("showlegend", True)} == {(1, 2, 3)}
