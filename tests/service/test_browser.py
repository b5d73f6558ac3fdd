"""What a person sees: Chromium, with the authority trusted and nothing overridden.

The pictures in docs/images are made here: UPDATE_SCREENSHOTS=1 .venv/bin/python -m pytest tests/service/test_browser.py
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from laptop import study
from tests.lacking import leave_out
from tests.service.stack import WEB_PORT, Stack, eventually

PAGE = f"https://localhost:{WEB_PORT}"
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
LARGEST_PICTURE = 150_000  # bytes: what a page of documentation may carry
# Without these, Chromium looks for its maker's hosts at every start.
QUIET = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-sandbox", "--window-size=1200,800"),
)


def open_browser(home: Path, monkeypatch: pytest.MonkeyPatch) -> webdriver.Chrome:
    missing = [name for name in ("chromium", "chromedriver", "certutil") if shutil.which(name) is None]
    if missing:
        leave_out(f"not installed: {', '.join(missing)} ('make test' installs them)")
    monkeypatch.setenv("HOME", str(home))  # where Chromium looks for the authorities that its user trusts
    options = Options()
    for argument in (*QUIET, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    opened.set_script_timeout(60)
    return opened


def log_in(browser: webdriver.Chrome, user: str, password: str) -> None:
    """Fill in the browser's own login. It keeps the password and answers with it wherever the page is asked for one."""
    browser.get(f"https://{user}:{password}@localhost:{WEB_PORT}/system")
    browser.get(f"{PAGE}/")  # an address without a password in it: scripts of the other kind may not ask for anything


def ask(browser: webdriver.Chrome, method: str, path: str) -> int:
    """The status of a request that a script of the open page makes."""
    script = "fetch(arguments[1], {method: arguments[0]}).then(answer => arguments[2](answer.status), error => arguments[2](String(error)))"
    status = browser.execute_async_script(script, method, path)
    assert isinstance(status, int), status
    return status


@pytest.fixture
def browser(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[webdriver.Chrome]:
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    authority = tmp_path / "authority.crt"
    authority.write_text(stack.site.authority("outside").certificate)
    if shutil.which("certutil"):
        database = f"sql:{store}"
        subprocess.run(["certutil", "-d", database, "-N", "--empty-password"], check=True)
        subprocess.run(["certutil", "-d", database, "-A", "-t", "C,,", "-n", "demo", "-i", str(authority)], check=True)
    opened = open_browser(tmp_path, monkeypatch)
    yield opened
    opened.quit()


@pytest.fixture
def picture(browser: webdriver.Chrome, tmp_path: Path) -> Callable[[str], None]:
    """Keeps what the browser shows, for the documentation when UPDATE_SCREENSHOTS is set."""
    folder = IMAGES if os.environ.get("UPDATE_SCREENSHOTS") else tmp_path

    def keep(name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        size = {"x": 0, "y": 0, "width": 1200, "height": 660, "scale": 0.6}
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": size})
        (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
        assert (folder / f"{name}.png").stat().st_size < LARGEST_PICTURE

    return keep


def test_chromium_accepts_the_certificate_and_shows_studies_and_an_image(
    stack: Stack, browser: webdriver.Chrome, picture: Callable[[str], None]
) -> None:
    log_in(browser, "reader", stack.site.password("reader"))
    assert "Orthanc" in browser.title
    if stack.images.standins:
        browser.get(f"{PAGE}/app/explorer.html#find-studies")
    eventually("the studies are listed", lambda: "Phantom^Demo" in browser.page_source, 30)
    time.sleep(1)  # until the list has been painted
    picture("studies")

    if not stack.images.standins:
        return  # the official image has other viewers, at other addresses
    uid = next(study.series(slices=1)).SeriesInstanceUID
    lookup = stack.web("/tools/lookup", method="POST", body=uid).json()
    assert isinstance(lookup, list)
    browser.get(f"{PAGE}/web-viewer/app/viewer.html?series={lookup[0]['ID']}")
    eventually("the viewer shows the made series", lambda: "Ellipsoids" in browser.page_source, 30)
    browser.find_element(By.ID, "slider").click()  # to the middle, where the phantom has lungs
    eventually("the image is drawn", lambda: grays(browser) > 20, 30)
    time.sleep(2)  # until it is drawn in full quality
    picture("viewer")
    assert severe(browser) == []


def grays(browser: webdriver.Chrome) -> int:
    """How many different levels the viewer's canvas holds: one while it is blank."""
    script = """
        const canvas = document.querySelector('canvas');
        if (!canvas || !canvas.width) return 0;
        const bytes = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(bytes.filter((_, index) => index % 4 === 0)).size;
    """
    found = browser.execute_script(script)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize(("user", "answered", "afterwards"), [("reader", 403, 200), ("admin", 200, 404)])
def test_a_script_of_the_page_deletes_nothing_for_a_reader_and_deletes_for_an_admin(
    stack: Stack, browser: webdriver.Chrome, user: str, answered: int, afterwards: int
) -> None:
    image = next(study.series(slices=1, seed="browser"))
    stack.peer("CT1").store([image])
    path = f"/instances/{stack.stored(image.SOPInstanceUID)}"
    log_in(browser, user, stack.site.password(user))
    assert ask(browser, "GET", f"{path}?_method=DELETE") == 403
    assert ask(browser, "GET", path) == 200
    assert ask(browser, "DELETE", path) == answered
    assert ask(browser, "GET", path) == afterwards


@pytest.mark.parametrize(("user", "afterwards"), [("reader", 200), ("admin", 404)])
def test_the_page_s_own_delete_button_is_refused_to_a_reader_and_deletes_for_an_admin(
    stack: Stack, browser: webdriver.Chrome, user: str, afterwards: int
) -> None:
    if not stack.images.standins:
        pytest.skip("the official image's page has its buttons elsewhere")
    image = next(study.series(slices=1, seed="button"))
    stack.peer("CT1").store([image])
    lookup = stack.web("/tools/lookup", method="POST", body=image.StudyInstanceUID).json()
    assert isinstance(lookup, list)
    identifier = next(entry["ID"] for entry in lookup if entry["Type"] == "Study")
    log_in(browser, user, stack.site.password(user))
    press_delete(browser, identifier)
    if user == "reader":
        eventually("the browser notes the refusal", lambda: any("403" in message for message in severe(browser)))
    eventually("what was to happen has", lambda: stack.web(f"/studies/{identifier}").status == afterwards)


def severe(browser: webdriver.Chrome) -> list[str]:
    """What the browser has complained of since it was last asked."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


def press_delete(browser: webdriver.Chrome, identifier: str) -> None:
    browser.get(f"{PAGE}/app/explorer.html#study?uuid={identifier}")
    browser.refresh()
    eventually("the study is shown", lambda: browser.find_element(By.ID, "study-delete").is_displayed(), 30)
    time.sleep(1)
    browser.find_element(By.ID, "study-delete").click()
    eventually("it asks whether that is meant", lambda: len(confirmations(browser)) > 0, 15)
    confirmations(browser)[0].click()


def confirmations(browser: webdriver.Chrome) -> list[Any]:
    found = browser.find_elements(By.XPATH, "//a[starts-with(normalize-space(), 'OK')]")
    return [link for link in found if link.is_displayed()]


def test_a_wrong_password_shows_nothing(stack: Stack, browser: webdriver.Chrome) -> None:
    for user, password in (("reader", "wrong"), ("reader", ""), ("nobody", stack.site.password("reader"))):
        log_in(browser, user, password)
        complaints = severe(browser)
        assert any("status of 401" in complaint for complaint in complaints), (complaints, browser.page_source)
        assert "Orthanc" not in browser.title
    log_in(browser, "reader", stack.site.password("reader"))
    assert ask(browser, "GET", "/studies") == 200


def test_many_wrong_passwords_are_slowed_while_a_page_s_500_requests_pass(stack: Stack, browser: webdriver.Chrome) -> None:
    log_in(browser, "reader", stack.site.password("reader"))
    script = """
        const ask = () => fetch('/studies').then(answer => answer.status);
        Promise.all(Array.from({length: 500}, ask)).then(
            statuses => arguments[0](statuses.filter(status => status === 200).length));
    """

    def guess(_: int) -> tuple[int, float]:
        began = time.monotonic()
        status = stack.web("/studies", user="reader", password="wrong").status
        return status, time.monotonic() - began

    with ThreadPoolExecutor(40) as guessers:
        guesses = [guessers.submit(guess, number) for number in range(40)]
        good = browser.execute_async_script(script)
        still_waiting = sum(not one.done() for one in guesses)
        ended = [one.result() for one in guesses]
    assert good == 500
    assert {status for status, _ in ended} == {401, 429}
    assert sum(status == 401 for status, _ in ended) <= 22, "those that waited their turn; the others were turned away"
    assert max(took for status, took in ended if status == 401) > 8, "twenty that wait, at two a second"
    assert still_waiting > 0, "the page had all its answers before them"


@pytest.mark.usefixtures("stack")
def test_chromium_refuses_the_page_while_the_authority_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_browser(tmp_path, monkeypatch)
    try:
        opened.get(f"{PAGE}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in opened.page_source
    finally:
        opened.quit()
