"""What a person sees: Chromium, with the authority trusted and nothing overridden.

The pictures in docs/images are made here: UPDATE_SCREENSHOTS=1 .venv/bin/python -m pytest tests/service/test_browser.py
Otherwise what is seen is held against them.
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

import numpy as np
import pytest
from numpy.typing import NDArray
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
# Pictures are compared by the mean gray of squares of so many pixels, in which another Chromium's edges and letters come to little.
SQUARE = 12
# The most by which the squares may differ on average, of 255. A viewer whose picture lies a pixel aside differs by 0.6, or a pixel
# lower by 1.8; a lung that is not there by 6, a list without its title by 12, an image that was not drawn by 22.
ALIKE = 3.0
BAR = 48  # pixels at the top of the list: below them stands what other tests have stored, too
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
def picture(stack: Stack, browser: webdriver.Chrome, tmp_path: Path) -> Callable[[str, int | None], None]:
    """What the browser shows is what docs/images has under that name, in so many rows of pixels; UPDATE_SCREENSHOTS puts it there."""

    def hold(name: str, rows: int | None) -> None:
        size = {"x": 0, "y": 0, "width": 1200, "height": 660, "scale": 0.6}
        shot = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": size})["data"])
        assert len(shot) < LARGEST_PICTURE
        committed = IMAGES / f"{name}.png"
        if os.environ.get("UPDATE_SCREENSHOTS"):
            committed.write_bytes(shot)
        elif stack.images.standins:  # the official image's pages look otherwise
            seen = tmp_path / committed.name
            seen.write_bytes(shot)
            now, then = (pixels(browser, found) for found in (shot, committed.read_bytes()))
            assert now.shape == then.shape
            found = difference(now[:rows], then[:rows])
            assert found < ALIKE, f"{seen} differs by {found:.1f} from docs/images: look at it, then UPDATE_SCREENSHOTS=1"

    return hold


def pixels(browser: webdriver.Chrome, picture: bytes) -> NDArray[np.float64]:
    """The grays of a PNG, row by row. In a tab of its own, whose page allows what this script does."""
    script = """
        const image = new Image();
        image.onload = () => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.width, image.height];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const bytes = context.getImageData(0, 0, image.width, image.height).data;
            const gray = (_, pixel) => Math.round((bytes[4 * pixel] + bytes[4 * pixel + 1] + bytes[4 * pixel + 2]) / 3);
            arguments[1]([image.height, image.width, Array.from({length: bytes.length / 4}, gray)]);
        };
        image.src = 'data:image/png;base64,' + arguments[0];
    """
    page = browser.current_window_handle
    browser.switch_to.new_window("tab")
    height, width, grays = browser.execute_async_script(script, base64.b64encode(picture).decode())
    browser.close()
    browser.switch_to.window(page)
    return np.array(grays, dtype=np.float64).reshape((int(height), int(width)))


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of two pictures of the same size, on average over squares; what is left at the right and at the bottom does not count."""

    def squares(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, columns = (length // SQUARE for length in picture.shape)
        whole = picture[: rows * SQUARE, : columns * SQUARE]
        means: NDArray[np.float64] = whole.reshape(rows, SQUARE, columns, SQUARE).mean(axis=(1, 3))
        return means

    return float(np.abs(squares(one) - squares(other)).mean())


def test_chromium_accepts_the_certificate_and_lists_the_studies(
    stack: Stack, browser: webdriver.Chrome, picture: Callable[[str, int | None], None]
) -> None:
    log_in(browser, "reader", stack.site.password("reader"))
    assert "Orthanc" in browser.title
    if stack.images.standins:
        browser.get(f"{PAGE}/app/explorer.html#find-studies")
    eventually("the studies are listed", lambda: "Phantom^Demo" in browser.page_source, 30)
    time.sleep(1)  # until the list has been painted
    picture("studies", BAR)
    assert severe(browser) == []


def test_the_viewer_draws_an_image(stack: Stack, browser: webdriver.Chrome, picture: Callable[[str, int | None], None]) -> None:
    if not stack.images.standins:
        pytest.skip("the official image has other viewers, at other addresses, and none of them was tried here")
    log_in(browser, "reader", stack.site.password("reader"))
    uid = next(study.series(slices=1)).SeriesInstanceUID
    lookup = stack.web("/tools/lookup", method="POST", body=uid).json()
    assert isinstance(lookup, list)
    browser.get(f"{PAGE}/web-viewer/app/viewer.html?series={lookup[0]['ID']}")
    eventually("the viewer shows the made series", lambda: "Ellipsoids" in browser.page_source, 30)
    browser.find_element(By.ID, "slider").click()  # to the middle, where the phantom has lungs
    eventually("the image is drawn", lambda: grays(browser) > 20, 30)
    time.sleep(2)  # until it is drawn in full quality
    picture("viewer", None)
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
