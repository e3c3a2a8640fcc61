"""A headless Chromium for tests, with what accessibility tests need. Where there is none, the reason is a string."""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


def missing_browser() -> str | None:
    """Return why no browser can be driven here, or None."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "Selenium is not installed"
    if not any(map(shutil.which, BROWSERS)) or not any(map(shutil.which, DRIVERS)):
        return "no Chromium with its driver; install Debian's chromium and chromium-driver"
    return None


def start_browser(profile: Path) -> Any:
    """Start a headless browser whose window is 1200 by 900 pixels. `profile` is an empty directory."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = next(path for path in map(shutil.which, BROWSERS) if path)
    for argument in (
        "--headless=new",
        "--no-sandbox",  # needed where tests run as root
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--window-size=1200,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # A driver given by path is never looked for on the network.
    driver = next(path for path in map(shutil.which, DRIVERS) if path)
    browser = Chrome(options=options, service=ChromeService(driver, env={**os.environ, "HOME": str(profile)}))
    browser.set_script_timeout(60)
    return browser


def set_viewport(browser: Any, width: int, height: int, theme: str = "light") -> None:
    """Set the size of the page in CSS pixels and the system's colour scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def accessibility_violations(browser: Any, **options: Any) -> list[str]:
    """Run axe on the page, with options of `axe.run`, and return the violations, one line for each element."""
    source = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    # Through the debugger, because the page's content security policy forbids injected scripts.
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": f"if (!globalThis.axe) {{{source}}}"})
    options["resultTypes"] = ["violations"]
    expression = f"axe.run(document, {json.dumps(options)}).then(r => JSON.stringify(r.violations))"
    result = browser.execute_cdp_cmd(
        "Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True}
    )
    violations = json.loads(result["result"]["value"])
    return [
        f"{each['id']}: {node['html'][:200]} ({node['failureSummary'][:200]})"
        for each in violations
        for node in each["nodes"]
    ]


def console_errors(browser: Any) -> list[str]:
    """Return errors that the page has logged since the last call, such as violations of its policy."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
