"""Takes docs/console.png: the launcher's page in a local account, with some runs and an open log.

.venv/bin/python -m tests.demo.console docs/console.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect, sync_playwright

from tests import chromium
from tests.sandbox import stack
from tests.sandbox.account import temporary_account

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_EXPORT = """sh
-c
for i in $(seq 4101 4109); do echo "order $i: exported"; sleep 0.3; done; sleep 60"""


def main() -> None:
    """Take it into the file that is named on the command line."""
    with tempfile.TemporaryDirectory() as folder, temporary_account(Path(folder)) as account:
        stack.build()
        stack.create_demo_cluster(account)
        outputs = stack.deploy(account)
        token = stack.launcher_token(account, outputs)
        with sync_playwright() as playwright, chromium.start(playwright, account) as browser:
            take(browser, outputs["LauncherUrl"], token, sys.argv[1])


def take(browser: Browser, url: str, token: str, path: str) -> None:
    """Sign in, launch some runs, and take the picture while the last one writes its log."""
    page = browser.new_page(
        viewport={"width": 1060, "height": 660},
        device_scale_factor=2,
        color_scheme="light",
        reduced_motion="reduce",
        locale="en-GB",
    )
    expect.set_options(timeout=20_000)
    page.goto(url)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    form = page.get_by_role("region", name="Launch")
    rows = page.get_by_role("table").get_by_role("row")
    for number, (profile, label, value, outcome) in enumerate(
        [
            ("default", "GREETING", "good morning", "Succeeded"),
            ("migrate", "EXIT_CODE", "0", "Succeeded"),
            ("migrate", "EXIT_CODE", "137", "Failed"),
            ("web", "Command", _EXPORT, "Running"),
        ],
        1,
    ):
        form.get_by_label("Profile").select_option(profile)
        form.get_by_label(label).fill(value)
        form.get_by_role("button", name="Launch").click()
        # The first row is the heading.
        expect(rows).to_have_count(number + 1)
        expect(rows.nth(1)).to_contain_text(outcome)
    expect(page.get_by_role("region", name="Log").locator("time")).to_have_count(9)
    form.get_by_label("Command").evaluate("area => area.scrollTo(0, 0)")
    page.screenshot(path=path)


if __name__ == "__main__":
    main()
