"""The built site, as its readers meet it."""

import json
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from autograder.solutions import exercise_names

ROOT = Path(__file__).resolve().parents[2]
AXE = (Path(__file__).parent / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
CHAPTERS, EXERCISES = (
    [f"{folder}/{path.stem}" for path in sorted((ROOT / folder).glob("*.ipynb"))]
    for folder in ("chapters", "exercises")
)
NOTEBOOKS = CHAPTERS + EXERCISES
PAGES = ["index", "reference", "search", *NOTEBOOKS]
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]

each_page = pytest.mark.parametrize("page", PAGES)
each_notebook = pytest.mark.parametrize("page", NOTEBOOKS)
each_exercise = pytest.mark.parametrize("page", EXERCISES)


def visit(browser: Chrome, address: str) -> None:
    """Open a page in its light theme, and wait until its formulas are drawn."""
    browser.get(address)
    if browser.execute_script("return document.documentElement.dataset.theme") != "light":
        browser.execute_script("localStorage.mode = localStorage.theme = 'light'")
        browser.refresh()
    browser.execute_async_script(
        "Promise.resolve(window.MathJax?.startup?.promise).then(() => requestAnimationFrame(arguments[0]))"
    )


def network(browser: Chrome) -> list[dict]:
    """The network events since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event for event in events if event["method"].startswith("Network.")]


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    """What a link into a page can point to."""
    return {node["id"] for node in soup(path).find_all(id=True)}


@each_page
def test_no_request_leaves_the_machine(browser: Chrome, site: str, page: str):
    network(browser)
    visit(browser, f"{site}{page}.html")
    for summary in browser.find_elements(By.CSS_SELECTOR, "details.sd-dropdown > summary"):
        summary.click()
    events = network(browser)
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert any(url.endswith(f"{page}.html") for url in asked)
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    answers = [event["params"]["response"] for event in events if event["method"] == "Network.responseReceived"]
    assert [answer["url"] for answer in answers if answer["status"] >= 400] == []


@each_page
def test_axe_finds_no_serious_fault(browser: Chrome, site: str, page: str):
    visit(browser, f"{site}{page}.html")
    browser.execute_script("document.querySelectorAll('details').forEach((box) => { box.open = true; });" + AXE)
    light, background = serious_faults(browser, "light"), browser.execute_script(BACKGROUND)
    dark = serious_faults(browser, "dark")
    assert browser.execute_script(BACKGROUND) != background  # the theme did change
    assert light == dark == []


BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


def serious_faults(browser: Chrome, theme: str) -> list[tuple[str, list[str]]]:
    """What axe finds on the page that is open, in one of its two themes."""
    browser.execute_async_script(
        "document.documentElement.dataset.theme = arguments[0]; requestAnimationFrame(arguments[1])", theme
    )
    faults = browser.execute_async_script("axe.run().then((found) => arguments[0](found.violations))")
    return [
        (fault["id"], [node["html"] for node in fault["nodes"]][:3])
        for fault in faults
        if fault["impact"] in ("serious", "critical")
    ]


@each_page
def test_fits_a_phone(browser: Chrome, site: str, page: str):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        visit(browser, f"{site}{page}.html")
        browser.execute_script("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        # What is wider than its box can be reached: it scrolls, there or in a box around it.
        assert browser.execute_script(CUT_OFF) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CUT_OFF = """
const scrolls = (box) =>
  box && (["auto", "scroll"].includes(getComputedStyle(box).overflowX) || scrolls(box.parentElement));
return [...document.querySelectorAll("article *")]
  .filter((box) => box.getBoundingClientRect().right > 361 && box.checkVisibility() && !scrolls(box))
  .map((box) => box.outerHTML.slice(0, 120));
"""


@each_page
def test_pictures_have_a_text(pages: Path, page: str):
    tree = soup(pages / f"{page}.html")
    assert [image for image in tree.find_all("img") if image.get("alt") is None] == []
    shown = tree.select("article img")
    assert [image for image in shown if not image["alt"].strip() or image["alt"].startswith("../_images")] == []


@each_page
def test_links_lead_somewhere(pages: Path, page: str):
    here = f"http://site/{page}.html"
    broken = []
    for link in soup(pages / f"{page}.html").select("a[href]"):
        address, anchor = urldefrag(urljoin(here, link["href"]))
        if not address.startswith("http://site/"):
            continue
        target = pages / unquote(urlsplit(address).path).lstrip("/")
        if not target.is_file() or (anchor and target.suffix == ".html" and unquote(anchor) not in anchors(target)):
            broken.append(link["href"])
    assert broken == []


@each_notebook
def test_opens_in_colab(browser: Chrome, site: str, page: str):
    visit(browser, f"{site}{page}.html")
    link = browser.find_element(By.CSS_SELECTOR, "a[href*='colab']").get_attribute("href")
    path = urlsplit(REPOSITORY["url"]).path
    assert link == f"https://colab.research.google.com/github{path}/blob/{REPOSITORY['branch']}/{page}.ipynb"


@each_notebook
def test_downloads_the_notebook_itself(pages: Path, page: str):
    link = soup(pages / f"{page}.html").select_one("a.btn-download-source-button")["href"]
    downloaded = (pages / page).parent / link
    nbformat.validate(nbformat.read(downloaded, as_version=4))
    assert downloaded.read_bytes() == (ROOT / f"{page}.ipynb").read_bytes()


@each_exercise
def test_a_solution_folds_open_under_each_exercise(browser: Chrome, site: str, page: str):
    visit(browser, f"{site}{page}.html")
    names = exercise_names((ROOT / "solutions" / f"{Path(page).name}.py").read_text(encoding="utf-8"))
    boxes = browser.find_elements(By.CSS_SELECTOR, "article details.sd-dropdown")
    for name, box in zip(names, boxes, strict=True):
        assert name in box.find_element(By.XPATH, "ancestor::section[1]/*[1]").text
        code = box.find_element(By.CSS_SELECTOR, "pre")
        assert not code.is_displayed()
        box.find_element(By.TAG_NAME, "summary").click()
        WebDriverWait(browser, 5).until(lambda _, code=code: code.is_displayed())
        assert name in code.text
        assert "SOLUTION" not in code.text and "NotImplementedError" not in code.text


@pytest.mark.parametrize("page", CHAPTERS)
def test_formulas_are_drawn(browser: Chrome, site: str, page: str):
    visit(browser, f"{site}{page}.html")
    formulas = browser.find_elements(By.CSS_SELECTOR, "article .math")
    drawn = browser.find_elements(By.CSS_SELECTOR, "article .math mjx-container svg")
    assert len(drawn) >= len(formulas)
    assert browser.find_elements(By.CSS_SELECTOR, "article [data-mjx-error]") == []


def test_search_finds_a_word(browser: Chrome, site: str):
    visit(browser, f"{site}index.html")
    ActionChains(browser).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    field = browser.find_element(By.CSS_SELECTOR, ".search-button__search-container input[type=search]")
    WebDriverWait(browser, 5).until(lambda _: field.is_displayed())
    field.send_keys("einsum", Keys.ENTER)
    assert "chapters/01_tensors.html" in results(browser)


def test_search_needs_no_server(browser: Chrome, pages: Path):
    browser.get(f"{(pages / 'search.html').as_uri()}?q=einsum")
    assert "chapters/01_tensors.html" in results(browser)


def results(browser: Chrome) -> str:
    """The addresses that the search page has found."""
    found = (By.CSS_SELECTOR, "#search-results ul.search li a")
    WebDriverWait(browser, 20).until(lambda _: browser.find_elements(*found))
    return " ".join(link.get_attribute("href") for link in browser.find_elements(*found))


def test_dark_mode_is_one_click_away_and_stays(browser: Chrome, site: str):
    visit(browser, f"{site}index.html")
    light = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    button = browser.find_element(By.CSS_SELECTOR, ".bd-header-article button.theme-switch-button")
    for _ in range(3):  # light, dark, as the system is
        if browser.execute_script("return localStorage.mode") != "dark":
            button.click()
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert dark != light
    browser.get(f"{site}reference.html")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == dark
