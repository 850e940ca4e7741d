"""The console page does what it says, in a browser, for a keyboard and for a screen reader too."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests import chromium
from tests.sandbox.stack import DEMO_CLUSTER, PROFILES, launcher_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Request, Response, Route

    from tests.sandbox.account import Account

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()

pytestmark = pytest.mark.skipif(
    chromium.CHROMIUM is None and "REQUIRE_CHROMIUM" not in os.environ, reason=chromium.WANTED
)
expect.set_options(timeout=20_000)


@dataclass
class Console:
    """One visit to the page, and what the browser had to say about it."""

    page: Page
    url: str
    token: str
    errors: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """Statuses of 400 and more; those of a test are asserted by it and taken away."""
    requests: list[Request] = field(default_factory=list)

    def watch(self) -> None:
        def said(kind: str, text: str) -> None:
            # What is refused is in `refused`.
            if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
                self.errors.append(text)

        def answered(response: Response) -> None:
            if response.status >= 400:
                self.refused.append(response.status)

        def asked(request: Request) -> None:
            self.requests.append(request)

        self.page.on("console", lambda message: said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("response", answered)
        self.page.on("request", asked)
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " event => console.error(`policy: ${event.violatedDirective}`))"
        )

    def sign_in(self, token: str | None = None) -> None:
        self.page.get_by_label("Token").fill(self.token if token is None else token)
        self.page.get_by_role("button", name="Sign in").click()

    def launch(self, profile: str = "default", **environment: str) -> str:
        """Launch by the form; return the run's id."""
        form = self.page.get_by_role("region", name="Launch")
        choice = form.get_by_label("Profile")
        if choice.input_value() != profile:  # To choose it again would empty the form.
            choice.select_option(profile)
        for name, value in environment.items():
            form.get_by_label(name, exact=True).fill(value)
        form.get_by_role("button", name="Launch").click()
        href = form.get_by_role("status").get_by_role("link").get_attribute("href")
        assert href
        return href.removeprefix("#")

    def row(self, run: str) -> Locator:
        return self.page.get_by_role("row").filter(has=self.page.get_by_title(run, exact=True))

    @property
    def run(self) -> Locator:
        return self.page.get_by_role("region", name="Run ", exact=False).filter(
            has=self.page.get_by_role("heading", name="Log")
        )

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("region", name="Log")


@pytest.fixture(scope="module")
def browser(account: Account) -> Iterator[Browser]:
    with sync_playwright() as playwright, chromium.start(playwright, account) as browser:
        yield browser


@pytest.fixture(scope="module")
def token(account: Account, outputs: dict[str, str]) -> str:
    return launcher_token(account, outputs)


@pytest.fixture
def visit(
    browser: Browser, outputs: dict[str, str], token: str
) -> Iterator[Callable[..., Console]]:
    """Open the page. In the end nothing was wrong with it, and nothing left its origin."""
    visits = []

    def open_page(**options: Any) -> Console:
        page = browser.new_context(**options).new_page()
        console = Console(page, outputs["LauncherUrl"].rstrip("/"), token)
        console.watch()
        visits.append(console)
        page.goto(console.url)
        return console

    yield open_page
    for console in visits:
        console.page.context.close()
        assert console.errors == []
        assert console.refused == []
        assert {_origin(request.url) for request in console.requests} == {_origin(console.url)}


@pytest.fixture
def signed_in(visit: Callable[..., Console]) -> Console:
    console = visit()
    console.sign_in()
    return console


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# ---------------------------------------------------------------- signing in


def test_policy_is_strict_when_the_page_is_read(visit: Callable[..., Console]) -> None:
    response = visit().page.reload()

    assert response
    rules = dict(
        rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; ")
    )
    hashes = [rules.pop("script-src"), rules.pop("style-src")]
    assert all(one.startswith("'sha256-") and " " not in one for one in hashes)
    assert rules == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_page_says_so_when_the_token_is_wrong(visit: Callable[..., Console]) -> None:
    console = visit()

    console.sign_in("wrong-token-of-some-length")

    expect(console.page.get_by_role("alert")).to_have_text("This token is not accepted.")
    expect(console.page.get_by_label("Token")).to_be_focused()
    expect(console.page.get_by_role("heading", name="Runs")).to_be_hidden()
    assert console.refused == [401]
    console.refused.clear()


def test_token_is_kept_nowhere_when_signed_in(signed_in: Console) -> None:
    page = signed_in.page
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()

    kept = page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie, history.state]")
    assert kept == [{}, {}, "", None]
    assert page.context.cookies() == []
    assert signed_in.token not in page.url + page.content()
    assert not [one for one in signed_in.requests if signed_in.token in one.url]
    expect(page.locator("#token")).to_have_value("")
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_page_signs_out_and_says_why_when_the_token_is_refused_later(signed_in: Console) -> None:
    page = signed_in.page
    signed_in.launch(GREETING="good bye")
    page.route("**/runs*", lambda route: route.fulfill(status=401, json={}))

    page.get_by_label("Status").select_option("Running")

    expect(page.get_by_role("alert")).to_contain_text("no longer accepted")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert "good bye" not in page.content()
    assert set(signed_in.refused) == {401}
    signed_in.refused.clear()


# ---------------------------------------------------------------- launching


def test_run_is_followed_to_its_exit_code_when_it_is_launched(signed_in: Console) -> None:
    run = signed_in.launch(GREETING="good morning")

    row = signed_in.row(run)
    expect(row).to_be_visible()
    expect(row).to_contain_text("Succeeded")
    expect(row.get_by_role("cell").nth(3)).to_have_text("0")
    expect(signed_in.log).to_contain_text("good morning from task one")
    expect(signed_in.run.get_by_role("heading", name="Log complete")).to_be_visible()
    signed_in.page.get_by_role("status").get_by_role("link").click()
    expect(signed_in.run.get_by_role("heading").first).to_be_focused()


def test_run_ends_when_it_is_stopped_through_the_dialog(signed_in: Console) -> None:
    run = signed_in.launch("web")
    expect(signed_in.row(run)).to_contain_text("Running")
    expect(signed_in.log).to_contain_text("listening")

    signed_in.run.get_by_role("button", name="Stop").click()
    dialog = signed_in.page.get_by_role("dialog", name="Stop this run?")
    expect(dialog).to_contain_text(run)
    expect(dialog).to_contain_text("web")
    dialog.get_by_role("button", name="Keep it running").click()
    expect(dialog).to_be_hidden()
    assert not [one for one in signed_in.requests if one.method == "DELETE"]
    signed_in.run.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Stop the run").click()

    expect(dialog).to_be_hidden()
    expect(signed_in.row(run)).to_contain_text("Stopped")
    expect(signed_in.run.get_by_role("button", name="Stop")).to_be_hidden()


def test_task_is_as_asked_when_every_field_is_filled(signed_in: Console, account: Account) -> None:
    form = signed_in.page.get_by_role("region", name="Launch")
    form.get_by_label("Profile").select_option("web")
    form.get_by_role("button", name="Add variable").click()
    form.get_by_label("Name of variable").fill("JOB_NAME")
    form.get_by_label("Value of variable").fill("seven")
    form.get_by_label("CPU").select_option("0.5 vCPU")
    form.get_by_label("Memory").select_option("2 GB")
    command = "sh\n-c\necho $GREETING from $JOB_NAME"

    run = signed_in.launch("web", GREETING="hello", Command=command, **{"Tag Team": "blue"})

    expect(signed_in.log).to_contain_text("hello from seven")
    (task,) = account.client("ecs").describe_tasks(
        cluster=DEMO_CLUSTER, tasks=[run], include=["TAGS"]
    )["tasks"]
    assert (task["overrides"]["cpu"], task["overrides"]["memory"]) == ("512", "2048")
    assert {"key": "Team", "value": "blue"} in task["tags"]


def test_problem_is_at_its_field_when_a_value_is_bad(signed_in: Console) -> None:
    form = signed_in.page.get_by_role("region", name="Launch")
    form.get_by_label("Profile").select_option("migrate")
    value = form.get_by_label("EXIT_CODE")
    value.fill("many")
    form.get_by_role("button", name="Launch").click()

    expect(value).to_have_accessible_description(
        f"Must match {PROFILES['migrate']['environment']['EXIT_CODE']}"
    )
    expect(value).to_have_attribute("aria-invalid", "true")
    expect(value).to_be_focused()
    assert signed_in.refused == [400]
    signed_in.refused.clear()


def test_problem_is_at_its_row_when_a_name_is_not_allowed(signed_in: Console) -> None:
    form = signed_in.page.get_by_role("region", name="Launch")
    form.get_by_role("button", name="Add variable").click()
    name = form.get_by_label("Name of variable")
    expect(name).to_be_focused()
    name.fill("OTHER")
    form.get_by_label("Value of variable").fill("x")
    form.get_by_role("button", name="Launch").click()

    expect(name).to_have_accessible_description("May not be set; allowed: GREETING, JOB_*")
    expect(name).to_have_attribute("aria-invalid", "true")
    assert signed_in.refused == [400]
    signed_in.refused.clear()


def test_second_press_is_the_same_order_when_the_first_got_no_answer(signed_in: Console) -> None:
    page = signed_in.page
    keys = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.abort()
        else:
            route.continue_()

    page.route(lambda url: urlsplit(url).path == "/runs", _only("POST", lose))
    button = page.get_by_role("button", name="Launch")
    button.click()
    expect(page.get_by_role("alert").filter(has_text="starts once at most")).to_be_visible()
    first = signed_in.launch()
    second = signed_in.launch(GREETING="another")

    assert first != second
    assert keys[0] == keys[1] != keys[2]


def test_markup_stays_text_when_a_task_writes_it(signed_in: Console) -> None:
    markup = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>"

    signed_in.launch(GREETING=markup)

    expect(signed_in.log).to_contain_text(markup)
    assert signed_in.page.locator("img").count() == 0
    assert "owned" not in signed_in.page.title()


# ---------------------------------------------------------------- looking


def test_run_is_open_when_the_address_names_it(
    signed_in: Console, visit: Callable[..., Console]
) -> None:
    run = signed_in.launch(GREETING="linked")

    other = visit()
    other.page.goto(f"{other.url}/#{run}")
    other.sign_in()

    expect(other.log).to_contain_text("linked")
    other.page.get_by_role("button", name="Close").click()
    expect(other.log).to_be_hidden()
    expect(other.row(run).get_by_role("link")).to_be_focused()


def test_meaning_is_shown_and_found_when_a_run_fails(signed_in: Console) -> None:
    run = signed_in.launch("migrate", EXIT_CODE="137")

    row = signed_in.row(run)
    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text("137 SIGKILL: killed, often out of memory")
    expect(signed_in.run.get_by_text("exited with 137")).to_be_visible()
    status = signed_in.page.get_by_label("Status")
    status.select_option("Succeeded")
    expect(row).to_be_hidden()
    status.select_option("Failed")
    expect(row).to_be_visible()


def test_caller_is_named_while_they_are_signed_in(signed_in: Console) -> None:
    name = signed_in.page.get_by_text("Signed in as default")
    expect(name).to_be_visible()

    signed_in.page.get_by_role("button", name="Sign out").click()

    expect(name).to_be_hidden()


def test_page_waits_as_long_as_it_is_told_when_it_asks_too_often(
    visit: Callable[..., Console],
) -> None:
    console = visit()
    page = console.page
    page.clock.install()
    page.reload()
    asked = []

    def throttle(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            problem = {"title": "Too Many Requests", "detail": "Fewer requests, please."}
            route.fulfill(status=429, headers={"retry-after": "60"}, json=problem)
        else:
            route.continue_()

    page.route(lambda url: urlsplit(url).path == "/runs", throttle)
    console.sign_in()
    notice = page.get_by_text("Fewer requests, please. Trying again.")
    expect(notice).to_be_visible()
    page.clock.run_for(50_000)
    assert len(asked) == 1
    page.clock.run_for(10_000)

    expect(notice).to_be_hidden()
    assert console.refused == [429]
    console.refused.clear()


def _asked_after(page: Page, seconds: int, asked: list[Any]) -> list[int]:
    """Let the page's clock run; return after how many seconds something was asked for."""
    times: list[int] = []
    for second in range(seconds):
        before = len(asked)
        page.clock.run_for(1000)
        page.wait_for_timeout(50)  # For what is asked to be answered.
        times += [second] * (len(asked) - before)
    return times


def test_page_asks_less_and_less_when_the_launcher_stays_busy(
    visit: Callable[..., Console],
) -> None:
    console = visit()
    page = console.page
    page.clock.install()
    page.reload()
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, headers={"retry-after": "5"}, json={"detail": "Busy."})

    page.route(lambda url: urlsplit(url).path == "/runs", refuse)
    console.sign_in()
    expect(page.get_by_text("Busy. Trying again.")).to_be_visible()
    times = _asked_after(page, 40, asked)

    gaps = [later - earlier for earlier, later in pairwise([0, *times])]
    # The clock goes on by itself, too.
    assert gaps == [pytest.approx(gap, rel=0.2, abs=1) for gap in (5, 10, 20)]
    assert set(console.refused) == {503}
    console.refused.clear()


def test_open_run_is_asked_for_more_often_than_the_list(visit: Callable[..., Console]) -> None:
    console = visit()
    page = console.page
    page.clock.install()
    page.reload()
    lists: list[str] = []
    looks: list[str] = []
    run = dict.fromkeys(("exitCode", "exitCodeMeaning", "reason", "startedAt", "stoppedAt"))
    run |= {"id": f"{7:032x}", "taskArn": "arn:7", "profile": "default", "caller": "ci"}

    def list_runs(route: Route) -> None:
        # What ECS listed some seconds ago.
        lists.append(route.request.url)
        route.fulfill(json={"runs": [{**run, "status": "RUNNING"}], "next": None})

    def show(route: Route) -> None:
        looks.append(route.request.url)
        status = "RUNNING" if len(looks) < 10 else "SUCCEEDED"
        route.fulfill(json={**run, "status": status, "exitCode": 0 if len(looks) == 10 else None})

    page.route(lambda url: urlsplit(url).path == "/runs", list_runs)
    page.route(lambda url: urlsplit(url).path == f"/runs/{run['id']}", show)
    page.route("**/logs*", lambda route: route.fulfill(json={"events": [], "next": "1"}))
    console.sign_in()
    console.row(f"{7:032x}").get_by_role("link").click()
    expect(console.row(f"{7:032x}")).to_contain_text("Running")
    times = _asked_after(page, 15, lists)
    assert len(times) == 3
    assert len(looks) == pytest.approx(8, abs=1)
    _asked_after(page, 15, lists)

    # The list, which is behind, does not take back what is known.
    expect(console.row(f"{7:032x}")).to_contain_text("Succeeded")
    assert len(looks) == 10


def test_last_lines_are_in_sight_when_a_log_is_very_long(signed_in: Console) -> None:
    def page_of(route: Route) -> None:
        query = dict(part.split("=") for part in urlsplit(route.request.url).query.split("&"))
        begin = int(query.get("after", "0"))
        lines = [
            {"time": "2026-11-20T14:00:00Z", "message": f"line {number}"}
            for number in range(begin, begin + 1000)
        ]
        content = {"events": lines, "next": str(begin + 1000), "complete": begin == 6000}
        route.fulfill(json=content)

    signed_in.page.route("**/logs*", page_of)
    signed_in.launch()

    expect(signed_in.log.get_by_text("line 6999", exact=True)).to_be_in_viewport()
    assert signed_in.log.locator("time").count() == 5000


# ---------------------------------------------------------------- for everybody


def test_everything_works_when_there_is_only_a_keyboard(visit: Callable[..., Console]) -> None:
    console = visit()
    keys = console.page.keyboard

    def tab_to(target: Locator) -> None:
        for _ in range(40):
            if target.evaluate("element => element === document.activeElement"):
                return
            keys.press("Tab")
        pytest.fail(f"Tab never comes to {target}")

    keys.type(console.token)
    keys.press("Enter")
    form = console.page.get_by_role("region", name="Launch")
    expect(form.get_by_label("Profile")).to_be_focused()
    tab_to(form.get_by_label("GREETING"))
    keys.type("by hand")
    keys.press("Enter")
    expect(console.log).to_contain_text("by hand from task one")
    tab_to(console.page.get_by_role("button", name="Close"))
    keys.press("Enter")
    expect(console.log).to_be_hidden()
    expect(console.page.get_by_role("row").nth(1).get_by_role("link")).to_be_focused()
    keys.press("Enter")

    expect(console.run.get_by_role("heading").first).to_be_focused()
    expect(console.log).to_contain_text("by hand from task one")
    tab_to(console.log)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_when_it_looks(
    visit: Callable[..., Console], scheme: str, width: int
) -> None:
    console = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = console.page

    def look(state: str) -> None:
        page.evaluate(AXE)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found], state

    look("signed out")
    console.sign_in("wrong-token-of-some-length")
    expect(page.get_by_role("alert")).not_to_be_empty()
    look("refused")
    console.sign_in()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.get_by_role("button", name="Add variable").click()
    look("signed in")
    console.launch("web")
    expect(console.log).to_contain_text("listening")
    look("a run is open")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    look("the dialog is open")
    page.get_by_role("button", name="Stop the run").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert console.refused == [401]
    console.refused.clear()


def _only(method: str, handle: Callable[[Route], None]) -> Callable[[Route], None]:
    return lambda route: handle(route) if route.request.method == method else route.continue_()
