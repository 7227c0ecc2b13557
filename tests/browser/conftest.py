"""A real JupyterLab and a headless Chromium, for the tests that press and drag.

Nothing of the user's is touched: configuration, workspaces, settings and runtime files live in a temporary folder, and
notebooks are copies. The server listens on this machine only. The browser may talk to nobody else; what it tried is
kept in `Lab.foreign`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
    "--disable-extensions",
    # WebGL without a graphics card
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]

# What JupyterLab itself writes to the console as an error without anything being wrong, each with its reason.
BENIGN: tuple[str, ...] = ()


@dataclass
class Lab:
    """A page in JupyterLab: opens notebooks, runs them, and remembers what went wrong in the browser."""

    page: object
    url: str
    root: Path
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, notebook: Path, timeout: float = 180) -> None:
        """Open a copy of a notebook, without its outputs, and wait until its kernel is there."""
        content = json.loads(notebook.read_text())
        for cell in content["cells"]:
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=None)
        (self.root / notebook.name).write_text(json.dumps(content))
        self.page.goto(f"{self.url}/lab/tree/{notebook.name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * timeout)
        self.page.wait_for_function(
            """() => {
            const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
            return kernel && kernel.status === 'idle';
        }""",
            timeout=1000 * timeout,
        )

    def run_all(self, timeout: float = 450) -> None:
        """Run All Cells, and wait until the kernel is idle and every code cell has been executed, or one failed."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(
            """() => {
            const panel = window.jupyterapp.shell.currentWidget;
            const cells = Array.from(panel.content.model.sharedModel.cells).filter(
                (c) => c.cell_type === 'code' && c.getSource().trim());
            const failed = cells.some((c) => c.getOutputs().some((o) => o.output_type === 'error'));
            return (failed || cells.every((c) => c.execution_count !== null)) &&
                panel.sessionContext.session.kernel.status === 'idle';
        }""",
            timeout=1000 * timeout,
            polling=200,
        )

    def tracebacks(self) -> list[str]:
        """Errors that cells ended with."""
        return self.page.evaluate("""() => {
            const cells = Array.from(window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells);
            return cells.filter((c) => c.cell_type === 'code').flatMap((c) => c.getOutputs())
                .filter((o) => o.output_type === 'error').map((o) => o.ename + ': ' + o.evalue);
        }""")

    def assert_quiet(self) -> None:
        """No error on the console, no request to another machine."""
        assert [e for e in self.errors if not any(b in e for b in BENIGN)] == []
        assert self.foreign == []

    def wait_for_change(self, mesh, before: str, timeout: float = 60) -> str:
        """Until the mesh on the screen is another one than that with the checksum `before`; its checksum."""
        self.page.wait_for_function(
            "([e, sum]) => e.dataset.checksum !== sum", arg=[mesh.element_handle(), before], timeout=1000 * timeout
        )
        self.page.wait_for_timeout(150)  # a frame later it is painted
        return mesh.get_attribute("data-checksum")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def chromium():
    """Playwright's module; skips, before any server is started, where there is no browser to drive."""
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"needs Chromium: there is no {CHROMIUM} (Debian: apt-get install chromium)")
    return pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")


@pytest.fixture(scope="session")
def jupyterlab(chromium, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """(address, folder it serves) of a JupyterLab that ends with the tests."""
    home = tmp_path_factory.mktemp("jupyter")
    root = home / "notebooks"
    root.mkdir()
    _write(
        home / "config/labconfig/page_config.json",
        {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
    )
    # Cells outside the window are drawn too: a widget that is not drawn cannot be dragged.
    _write(home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings", {"windowingMode": "none"})
    port = _free_port()
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "SHAPELAB_PROFILE": "quick",
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "passive",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api", server, home / "server.log")
            yield f"http://127.0.0.1:{port}", root
        finally:
            server.terminate()  # shuts its kernels down first
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def lab(chromium, jupyterlab) -> Iterator[Lab]:
    """A fresh page of a headless Chromium."""
    url, root = jupyterlab
    with chromium.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1300, "height": 1000})
            found = Lab(page, url, root)

            def route(request_route):
                if request_route.request.url.startswith((url, "data:", "blob:")):
                    request_route.continue_()
                else:
                    found.foreign.append(request_route.request.url)
                    request_route.abort()

            page.route("**/*", route)
            page.on("console", lambda m: found.errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: found.errors.append(str(e)))
            yield found
        finally:
            browser.close()
