"""What the pages of the site tell people to type works, and what is drawn on them is true."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
    if "results" not in path.parts
}
BLOCK = re.compile(r"^([^\n]*)\n```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
MARK = re.compile(
    r"<!-- (run|run against a server|file: [\w.]+|not run: \w.{10,}) -->"  # what stands above
)
SERVER = "against a server"
CODE = ("sh", "python", "js")
KNOWN = (*CODE, "text", "json", "toml", "csv", "yaml")


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Mark, language and content of every block of a page; the mark is empty if there is none."""
    found = []
    for above, language, content in BLOCK.findall(text):
        mark = MARK.fullmatch(above)
        found.append((mark[1] if mark else "", language, content))
    return found


RUN = {
    name: blocks(text)
    for name, text in PAGES.items()
    if any(mark.startswith("run") for mark, _, _ in blocks(text))
}


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """A server with the bundled pair; its port."""
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "baco", "serve", "--pair", "tiny", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serving:
        try:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                assert serving.poll() is None, "the server ended"
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60)
                    break
                except OSError:
                    time.sleep(0.2)
            yield port
        finally:
            serving.terminate()
            serving.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run_in_order(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one folder; Python in one namespace, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    for sign, module in (("bench", "matplotlib"), ("study", "fastapi"), ("openai", "openai")):
        if any(sign in content for mark, _, content in RUN[name] if mark.startswith("run")):
            pytest.importorskip(module)
    space: dict[str, Any] = {"__name__": "__main__"}
    for mark, language, content in RUN[name]:
        if mark.startswith("file: "):
            (tmp_path / mark.removeprefix("file: ")).write_text(content, encoding="utf-8")
        if not mark.startswith("run"):
            continue
        if SERVER in mark:
            assert "8000" in content
            content = content.replace("8000", str(request.getfixturevalue("server")))
        if "curl" in content and not shutil.which("curl"):
            pytest.skip("needs curl")
        if language == "python":
            exec(compile(content, name, "exec"), space)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", content], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        made = " -o " in content or "--out" in content or ">" in content
        assert done.stdout.strip() or made, "it shows nothing"
        assert '"error"' not in done.stdout


def test_every_block_of_code_runs_or_says_why_not() -> None:
    assert sum(len(todo) for todo in RUN.values()) > 20
    for name, text in PAGES.items():
        for mark, language, content in blocks(text):
            assert language in KNOWN, f"{name}: {content[:60]}"
            assert mark or language not in CODE, f"{name}: {content[:60]}"
            assert not mark.startswith("run") or language in ("sh", "python")


def test_the_notebook_says_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells run in order, and print what is saved beside them."""
    notebook = json.loads((DOCS / "tutorials" / "first-pair.ipynb").read_text(encoding="utf-8"))
    space: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 3
    capsys.readouterr()
    for cell in code:
        exec(compile("".join(cell["source"]), "cell", "exec"), space)
        saved = "".join(text for output in cell["outputs"] for text in output["text"])
        assert capsys.readouterr().out == saved


def test_the_moving_picture_is_of_the_bundled_pair() -> None:
    """Every token that it writes is the one that the pair gives today, from the same author."""
    import xml.etree.ElementTree as ET

    import baco

    picture = ET.parse(DOCS / "images" / "decode.svg").getroot()
    spaces = {"svg": "http://www.w3.org/2000/svg"}
    drawn = [
        (span.text, "base" if "#b35900" in span.get("style", "") else "aligned")
        for span in picture.iterfind(".//svg:tspan", spaces)
    ]
    prompt = "My comic has a wise wizard without a name. Suggest one."
    assert prompt in "".join(picture.itertext())
    sample = baco.load("tiny").generate(prompt, n=1, router="p-punc@0.3", seed=7)[0]
    assert "".join(text or "" for text, _ in drawn) == sample.text.strip()
    written = [source for token, source in zip(sample.tokens, sample.sources, strict=True) if token]
    assert [source for _, source in drawn] == written
    style = picture.find("svg:style", spaces)
    assert style is not None
    assert "prefers-reduced-motion" in (style.text or "")


def test_generated_pages_name_everything_that_is_registered() -> None:
    import baco
    from baco.metrics import METRICS
    from docs._site import pages

    assert all(f"`{name}`" in pages.routers() for name in baco.ROUTERS)
    assert all(f"`{name}`" in pages.methods() for name in baco.METHODS)
    assert all(f"`{name}`" in pages.metrics() for name in METRICS)
    assert all(f"::: baco.{name}\n" in pages.python() for name in baco.__all__)
    text = pages.command_line()
    for command in ("generate", "bench run", "study report", "serve", "metrics score"):
        assert f"## `baco {command}`" in text
    assert "`--gamma <str>`" in text


def test_links_between_pages_lead_to_pages() -> None:
    from docs._site import hooks

    assert hooks.relinked("[a](../SECURITY.md#x)", "serve.md") == "[a](project/security.md#x)"
    assert hooks.relinked("[a](docs/serve.md)", "project/security.md") == "[a](../serve.md)"
    assert hooks.relinked("[a](../src/baco/pair.py)", "serve.md") == "a (`src/baco/pair.py`)"
    assert hooks.relinked("[a](https://a.b/c)", "serve.md") == "[a](https://a.b/c)"


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://a.b/x.js"></script>',
        '<link rel="stylesheet" href="//a.b/x.css">',
        "@font-face{src:url(https://a.b/x.woff)}",
        '<img alt="" src="http://a.b/x.png">',
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(text: str) -> None:
    from docs._site import hooks

    assert len(hooks.loads(text)) == 1
    assert not hooks.loads('<a href="https://a.b">a</a><script src="x.js"></script>')


PLAN = """
name = "small"
pairs = ["tiny"]
n = 1
[[datasets]]
dataset = "tiny"
limit = 8
[sampling]
max_new_tokens = 8
[[methods]]
method = "aligned"
[metrics]
quality = ["reward@tiny"]
diversity = ["dist_1"]
"""


def on_cluster(folder: Path, sign: str) -> str:
    """Runs the block of docs/cluster.md that holds a sign, in a folder with a plan."""
    (script,) = (content for _, _, content in blocks(PAGES["cluster.md"]) if sign in content)
    script = re.sub(r"^(source|export|sbatch) .*\n", "", script, flags=re.MULTILINE)
    (folder / "plan.toml").write_text(PLAN)
    (folder / "disk").mkdir(exist_ok=True)
    more = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(folder / "disk"),
        "SLURM_JOB_NAME": "baco",
        "SLURM_ARRAY_TASK_ID": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script.replace("PLAN", "plan.toml")],
        cwd=folder,
        env=os.environ | more,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_slurm_task_goes_on_beside_what_a_killed_one_left(tmp_path: Path) -> None:
    """The node's store has samples in its log alone; the shared folder's is older."""
    from baco.bench.plan import read_plan
    from baco.bench.run import BenchWorker, Part, prepare
    from baco.bench.store import Store

    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "disk").mkdir()
    plan = read_plan(str(tmp_path / "plan.toml"))
    part, here = tmp_path / "baco-1.sqlite", tmp_path / "disk" / "baco-1.sqlite"
    for number, path in ((2, part), (3, here)):  # neither has what the task is to make
        prepare(plan, path)
        with Store(path):
            BenchWorker(plan, path, part=Part(number, 8)).run()
            if path == here:
                for end in ("", "-wal", "-shm"):
                    shutil.copy(f"{here}{end}", f"{here}.killed{end}")
    for end in ("", "-wal", "-shm"):
        shutil.move(f"{here}.killed{end}", f"{here}{end}")
    on_cluster(tmp_path, "#SBATCH")
    with Store(part) as store:
        assert store.counts().keys() == {
            (cell.key, store.records(cell)[i].id) for cell in store.cells() for i in (0, 2, 3)
        }
    assert not list(tmp_path.glob("baco-1.sqlite?*"))
    on_cluster(tmp_path, "sbatch baco.sbatch")
    with Store(tmp_path / "all.sqlite") as store:
        assert len(store.counts()) == 8
    assert not list((tmp_path / "disk").glob("tmp*/all.sqlite-*"))


def test_the_prompts_of_a_plan_can_be_fetched(tmp_path: Path) -> None:
    assert re.fullmatch(r"tiny \d+\n", on_cluster(tmp_path, "load_dataset"))
