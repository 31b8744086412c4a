"""The interactive page: as HTML, and in a real browser where there is one."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from lit_transformer.analysis.maps import KINDS, maps_of
from lit_transformer.analysis.page import Page
from lit_transformer.decoding.attention import Attention
from lit_transformer.errors import UserError
from tests.helpers.attentions import HOSTILE, SOURCE, one_stack, random_attention

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
in_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium or Chrome with its chromedriver here")


class Tags(HTMLParser):
    """All tags with their attributes, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


@pytest.fixture(scope="module")
def attention() -> Attention:
    return random_attention()


@pytest.fixture(scope="module")
def hostile() -> Attention:
    return random_attention(HOSTILE, HOSTILE[::-1])


def test_text_cannot_end_its_block(attention: Attention, hostile: Attention) -> None:
    page, plain = Tags(Page([hostile]).html), Tags(Page([attention]).html)
    assert page.tags == plain.tags
    assert page.scripts[1] == plain.scripts[1]
    data = json.loads(page.scripts[0])
    assert data[0]["cross"]["queries"] == HOSTILE[::-1]
    assert not set(page.scripts[0]) & set("<>&")


def test_nothing_is_asked_for_from_outside(attention: Attention) -> None:
    page = Tags(Page([attention]).html)
    for tag, attributes in page.tags:
        assert not attributes.keys() & {"src", "href", "srcset", "action", "data", "background"}, tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert "import" not in page.scripts[1]
    style = re.search(r"<style>(.*)</style>", Page([attention]).html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_weights_are_all_there(attention: Attention, hostile: Attention) -> None:
    data = json.loads(Tags(Page([attention, hostile]).html).scripts[0])
    for sentence, expected in zip(data, (attention, hostile), strict=True):
        for kind in KINDS:
            layers, queries, keys = maps_of(expected, kind)
            assert sentence[kind]["queries"] == queries
            assert sentence[kind]["keys"] == keys
            assert sentence[kind]["layers"] == [1, 2]
            np.testing.assert_allclose(sentence[kind]["weights"], list(layers.values()), atol=5.1e-5)


def test_a_notebook_shows_it_in_a_frame(hostile: Attention) -> None:
    page = Page([hostile])
    [(tag, attributes)] = Tags(page._repr_html_()).tags
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == page.html


def test_a_page_needs_a_sentence() -> None:
    with pytest.raises(UserError, match="at least one sentence"):
        Page([])


# In a browser


class Shown:
    """A page in a browser, and what can be seen and done there."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def open(self, file: Path, content: str) -> None:
        file.write_text(content, encoding="utf-8")
        self.browser.get(file.as_uri())

    def choose(self, choice: str, text: str) -> None:
        Select(self.browser.find_element(By.ID, choice)).select_by_visible_text(text)

    def chosen(self, choice: str) -> str:
        return Select(self.browser.find_element(By.ID, choice)).first_selected_option.text

    def tokens(self, side: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, f"#{side} button")

    def texts(self, side: str) -> list[str]:
        return [token.get_property("textContent") for token in self.tokens(side)]  # type: ignore[misc]

    def hover(self, token: WebElement) -> None:
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", token)
        ActionChains(self.browser).move_to_element(token).perform()

    def leave(self) -> None:
        ActionChains(self.browser).move_to_element(self.browser.find_element(By.ID, "overview-name")).perform()

    def numbers(self, side: str) -> list[float]:
        weights = self.browser.find_elements(By.CSS_SELECTOR, f"#{side} .weight")
        return [float(weight.text) for weight in weights if weight.text]

    def summary(self) -> str:
        return self.browser.find_element(By.ID, "summary").text

    def lines(self) -> list[float]:
        lines = self.browser.find_elements(By.CSS_SELECTOR, "#lines line")
        return [float(line.get_attribute("stroke-opacity") or "nan") for line in lines]

    def network(self, event: str) -> list[dict[str, Any]]:
        """What the browser has logged about its requests since the last call."""
        entries = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [entry["params"] for entry in entries if entry["method"] == f"Network.{event}"]

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    assert BROWSER is not None
    options.binary_location = BROWSER
    # Containers run tests as root and have little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=ChromeService(DRIVER))
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield browser
    browser.quit()


@pytest.fixture
def shown(browser: Chrome) -> Iterator[Shown]:
    shown = Shown(browser)
    shown.network("requestWillBeSent")
    shown.complaints()
    yield shown
    assert shown.complaints() == []
    # The file itself and, in a notebook, its frames.
    addresses = {request["request"]["url"] for request in shown.network("requestWillBeSent")}
    assert {address.partition(":")[0] for address in addresses} <= {"file", "about"}


@in_browser
def test_pointing_at_a_token_shows_its_weights(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    shown.open(tmp_path / "page.html", Page([attention]).html)
    assert shown.texts("queries") == ["·Die", "·Katze", "·schläft", ".", "</s>"]
    assert shown.texts("keys") == ["·The", "·cat", "·sle", "eps", ".", "</s>"]
    assert (shown.chosen("kind"), shown.chosen("layer"), shown.chosen("head")) == (
        "cross: target to source",
        "2",
        "mean of the heads",
    )
    assert not shown.browser.find_element(By.ID, "sentence").is_displayed()
    mean = attention.cross[1].mean(axis=0)
    np.testing.assert_allclose(sorted(shown.lines()), sorted(mean[mean >= 0.02]), atol=1e-4)
    shown.hover(shown.tokens("queries")[1])
    np.testing.assert_allclose(shown.numbers("keys"), mean[1], atol=6e-4)
    assert shown.numbers("queries") == []
    np.testing.assert_allclose(sorted(shown.lines()), sorted(mean[1][mean[1] >= 0.02]), atol=1e-4)
    best = int(mean[1].argmax())
    key = SOURCE[best].replace("\u2581", "·")
    assert shown.summary().startswith(
        f"cross, layer 2, mean of the heads: “·Katze” attends to “{key}” {mean[1][best]:.3f}"
    )
    # Keys are asked the other way round.
    shown.hover(shown.tokens("keys")[4])
    np.testing.assert_allclose(shown.numbers("queries"), mean[:, 4], atol=6e-4)
    assert "“.” is attended to by " in shown.summary()
    shown.leave()
    assert shown.numbers("queries") == shown.numbers("keys") == []


@in_browser
@pytest.mark.parametrize("word", ["\u2581القطة", "\u2581החתול", "\u2581cat"])
def test_the_mark_of_a_word_is_where_its_letters_begin(shown: Shown, tmp_path: Path, word: str) -> None:
    shown.open(tmp_path / "page.html", Page([random_attention([word, "</s>"], [word, "</s>"])]).html)
    for side in ("queries", "keys"):
        token = shown.tokens(side)[0]
        mark, whole = (token.find_element(By.CSS_SELECTOR, part).rect for part in (".mark", "bdi"))
        is_left = mark["x"] - whole["x"] < 1
        is_right = mark["x"] + mark["width"] > whole["x"] + whole["width"] - 1
        assert (is_left, is_right) == ((True, False) if word == "\u2581cat" else (False, True))


@in_browser
def test_a_phone_shows_all_of_it_without_scrolling_sideways(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    shown.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        shown.open(tmp_path / "page.html", Page([attention, attention]).html)
        shown.tokens("queries")[1].click()
        assert len(shown.numbers("keys")) == len(SOURCE)
        assert shown.browser.execute_script("return document.documentElement.scrollWidth") == 360
        right = max(token.rect["x"] + token.rect["width"] for token in shown.tokens("keys"))
        assert right < 360
        # No word is cut off.
        for token in [*shown.tokens("queries"), *shown.tokens("keys")]:
            assert shown.browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", token)
    finally:
        shown.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@in_browser
def test_the_sentence_and_its_translation_are_written_out(
    shown: Shown, attention: Attention, hostile: Attention, tmp_path: Path
) -> None:
    shown.open(tmp_path / "page.html", Page([attention, hostile]).html)
    assert shown.browser.title == "Attention: The cat sleeps."
    for side, text in (("source", "The cat sleeps."), ("target", "Die Katze schläft.")):
        assert shown.browser.find_element(By.ID, f"{side}-text").text == text


@in_browser
def test_choosing_layer_head_and_kind(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    shown.open(tmp_path / "page.html", Page([attention]).html)
    shown.choose("layer", "1")
    shown.choose("head", "head 3")
    shown.hover(shown.tokens("queries")[2])
    np.testing.assert_allclose(shown.numbers("keys"), attention.cross[0][2][2], atol=6e-4)
    assert shown.summary().startswith("cross, layer 1, head 3: ")
    shown.choose("kind", "decoder: target to target so far")
    assert shown.texts("queries") == shown.texts("keys") == ["<s>", "·Die", "·Katze", "·schläft", "."]
    shown.hover(shown.tokens("queries")[2])
    np.testing.assert_allclose(shown.numbers("keys"), attention.decoder[0][2][2], atol=6e-4)
    shown.choose("kind", "encoder: source to source")
    # The small pictures choose, too.
    [picture] = shown.browser.find_elements(By.CSS_SELECTOR, "#overview button[title='layer 2, head 2']")
    picture.click()
    assert (shown.chosen("layer"), shown.chosen("head")) == ("2", "head 2")
    assert picture.get_attribute("aria-pressed") == "true"
    shown.hover(shown.tokens("queries")[5])
    np.testing.assert_allclose(shown.numbers("keys"), attention.encoder[1][1][5], atol=6e-4)


@in_browser
def test_a_model_of_one_stack(shown: Shown, tmp_path: Path) -> None:
    """It has one text and one kind of attention, so nothing is said about a source, a target or kinds."""
    bert, gpt = one_stack("encoder"), one_stack("decoder")
    for attention, kind, text in ((bert, "encoder", "The cat sleeps."), (gpt, "decoder", "Die Katze schläft.")):
        shown.open(tmp_path / f"{kind}.html", Page([attention]).html)
        assert shown.browser.title == f"Attention: {text}"
        seen = shown.browser.find_element(By.TAG_NAME, "main").text
        assert f"text: {text}" in seen
        assert "source" not in seen
        assert "target" not in seen
        assert not shown.browser.find_element(By.ID, "kind").is_displayed()
        assert shown.texts("queries") == shown.texts("keys")
        shown.choose("layer", "1")
        shown.choose("head", "head 3")
        shown.hover(shown.tokens("queries")[2])
        maps = maps_of(attention, kind).layers  # type: ignore[arg-type]
        np.testing.assert_allclose(shown.numbers("keys"), maps[0][2][2], atol=6e-4)
        assert shown.summary().startswith(f"{kind}, layer 1, head 3: ")
        [picture] = shown.browser.find_elements(By.CSS_SELECTOR, "#overview button[title='layer 2, head 2']")
        picture.click()
        assert (shown.chosen("layer"), shown.chosen("head")) == ("2", "head 2")


@in_browser
def test_the_keyboard_does_what_the_mouse_does(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    shown.open(tmp_path / "page.html", Page([attention]).html)
    shown.choose("head", "head 1")
    ActionChains(shown.browser).send_keys(Keys.TAB, Keys.TAB).perform()
    assert shown.browser.switch_to.active_element == shown.tokens("queries")[1]
    np.testing.assert_allclose(shown.numbers("keys"), attention.cross[1][0][1], atol=6e-4)
    # Enter keeps a token, also when another head is chosen; once more lets it go.
    ActionChains(shown.browser).send_keys(Keys.ENTER).perform()
    assert shown.tokens("queries")[1].get_attribute("aria-pressed") == "true"
    shown.choose("head", "head 2")
    np.testing.assert_allclose(shown.numbers("keys"), attention.cross[1][1][1], atol=6e-4)
    shown.tokens("queries")[1].send_keys(Keys.ENTER)
    shown.choose("head", "head 3")
    assert shown.numbers("keys") == []


@in_browser
def test_text_does_nothing(shown: Shown, attention: Attention, hostile: Attention, tmp_path: Path) -> None:
    shown.open(tmp_path / "page.html", Page([attention, hostile]).html)
    sentences = Select(shown.browser.find_element(By.ID, "sentence"))
    assert sentences.options[0].text == "The cat sleeps."
    sentences.select_by_index(1)
    for kind in ("encoder: source to source", "cross: target to source"):
        shown.choose("kind", kind)
        shown.browser.execute_script("for (const token of document.querySelectorAll('li button')) token.focus()")
        assert "is attended to by" in shown.summary()
    expected = [token.replace("\u2581", "·") for token in HOSTILE]
    expected[HOSTILE.index("\u2581")] = "␣"
    expected[HOSTILE.index("\n\r\u2028\x00")] = "□□□□"
    assert shown.texts("keys") == expected
    assert shown.browser.execute_script("return typeof window.pwned") == "undefined"
    assert shown.browser.find_elements(By.CSS_SELECTOR, "img, main script, #map svg svg") == []


@in_browser
def test_unknown_tokens_show_their_characters(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    unknown = random_attention(["\u2581The", "\u2581", "<unk:😀<b>>", "</s>"], ["<unk:你好>", "</s>"])
    shown.open(tmp_path / "page.html", Page([unknown, attention]).html)
    assert shown.texts("keys") == ["·The", "␣", "😀<b>", "</s>"]
    assert shown.texts("queries") == ["你好", "</s>"]
    marked = shown.browser.find_elements(By.CSS_SELECTOR, "li .unknown")
    assert [each.text for each in marked] == ["你好", "😀<b>"]
    assert all(each.get_attribute("title") for each in marked)
    assert Select(shown.browser.find_element(By.ID, "sentence")).options[0].text == "The 😀<b>"


@in_browser
def test_even_what_got_in_would_neither_run_nor_load(shown: Shown, attention: Attention, tmp_path: Path) -> None:
    page = Page([attention]).html.replace("<main>", "<main><script>window.pwned = 1</script><img src='http://x.test/'>")
    shown.open(tmp_path / "page.html", page)
    assert shown.browser.execute_script("return typeof window.pwned") == "undefined"
    assert len(shown.complaints()) == 2
    assert [failed["blockedReason"] for failed in shown.network("loadingFailed")] == ["csp"]
    assert len(shown.tokens("queries")) == 5


@in_browser
def test_two_pages_in_a_notebook(shown: Shown, attention: Attention, hostile: Attention, tmp_path: Path) -> None:
    notebook = "".join(Page([each])._repr_html_() for each in (attention, hostile))
    shown.open(tmp_path / "notebook.html", f"<!doctype html><body>{notebook}")
    frames = shown.browser.find_elements(By.TAG_NAME, "iframe")
    for frame, each in zip(frames, (attention, hostile), strict=True):
        shown.browser.switch_to.frame(frame)
        assert len(shown.tokens("keys")) == len(each.source)
        # Not pointed at: the driver misses what lies in a frame that is scrolled.
        shown.browser.execute_script("arguments[0].focus()", shown.tokens("queries")[0])
        np.testing.assert_allclose(shown.numbers("keys"), each.cross[1].mean(axis=0)[0], atol=6e-4)
        shown.browser.switch_to.default_content()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(shown: Shown, attention: Attention, tmp_path: Path, scheme: str) -> None:
    """Text stands out from its background as the accessibility guidelines ask, WCAG 2 AA."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    shown.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    shown.open(tmp_path / "page.html", Page([attention]).html)
    paper = luminance(shown.browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert (paper > 0.5) == (scheme == "light")
    for selector in ("#summary", "#queries button", "label", "h2", "select"):
        ink = luminance(shown.browser.find_element(By.CSS_SELECTOR, selector).value_of_css_property("color"))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector
    shown.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2."""
    channels = [int(channel) / 255 for channel in re.findall(r"\d+", color)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
