"""What a person sees: Chromium, with the authority trusted and nothing overridden."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from laptop import study
from tests.service.stack import WEB_PORT, Stack, eventually

PAGE = f"https://localhost:{WEB_PORT}"
# Without these, Chromium looks for its maker's hosts at every start.
QUIET = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-sandbox", "--window-size=1200,800"),
)


def open_browser(home: Path, monkeypatch: pytest.MonkeyPatch) -> webdriver.Chrome:
    missing = [name for name in ("chromium", "chromedriver", "certutil") if shutil.which(name) is None]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', '.join(missing)} ('make test' installs them)")
    monkeypatch.setenv("HOME", str(home))  # where Chromium looks for the authorities that its user trusts
    options = Options()
    for argument in (*QUIET, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def log_in(browser: webdriver.Chrome, user: str, password: str) -> None:
    """As if the browser's password window had been filled in."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {login}"}})


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


def test_chromium_accepts_the_certificate_and_shows_studies_and_an_image(stack: Stack, browser: webdriver.Chrome) -> None:
    log_in(browser, "reader", stack.site.password("reader"))
    browser.get(f"{PAGE}/")
    assert "Orthanc" in browser.title
    if stack.images.standins:
        browser.get(f"{PAGE}/app/explorer.html#find-studies")
    eventually("the studies are listed", lambda: "Phantom^Demo" in browser.page_source, 30)

    if not stack.images.standins:
        return  # the official image has other viewers, at other addresses
    uid = next(study.series(slices=1)).SeriesInstanceUID
    lookup = stack.web("/tools/lookup", method="POST", body=uid).json()
    assert isinstance(lookup, list)
    browser.get(f"{PAGE}/web-viewer/app/viewer.html?series={lookup[0]['ID']}")
    eventually("the viewer shows the made series", lambda: "Ellipsoids" in browser.page_source, 30)
    time.sleep(2)
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert complaints == []


@pytest.mark.usefixtures("stack")
def test_chromium_refuses_the_page_while_the_authority_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_browser(tmp_path, monkeypatch)
    try:
        opened.get(f"{PAGE}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in opened.page_source
    finally:
        opened.quit()
