"""`baco study` as a user types it: create, links, simulate, report, export, delete."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baco.cli.study import app
from baco.errors import BacoError, InputError
from baco.study.store import Study

RUN = CliRunner()


def run(*arguments, fails=None):
    """Runs the command; errors that the main command prints are given back as text."""
    result = RUN.invoke(app, [str(argument) for argument in arguments])
    if fails is None:
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output
    assert isinstance(result.exception, fails), result.output
    text = str(result.exception)
    assert "\n" not in text
    return text


@pytest.fixture
def files(tmp_path):
    paths = []
    for method in ("aligned", "baco"):
        path = tmp_path / f"{method}.jsonl"
        rows = [
            {
                "prompt": f"prompt {at}",
                "method": method,
                "index": index,
                "text": f"{method} {at} {index} " + "word " * at,
                "quality": 6 + (at + index) % 3 / 10,
            }
            for at in range(16)
            for index in range(5)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        paths.append(path)
    return paths


@pytest.fixture
def study(files, tmp_path):
    path = tmp_path / "study.sqlite"
    run("create", *files, "-o", path, "--prompts", 6, "--title", "Mine", "--annotators", 2)
    return path


def test_create_says_what_it_did(files, tmp_path):
    path = tmp_path / "study.sqlite"
    said = run(
        "create", *files, "-o", path, "--prompts", 6, "--annotators", 2, "--url", "http://x/"
    )
    assert "6 prompts, 3 responses each of aligned, baco" in said
    assert "automatic quality: aligned 6." in said
    tokens = [annotator.token for annotator in Study.open(path).annotators()]
    assert [f"http://x/#{token}" in said for token in tokens] == [True, True]


def test_create_with_own_names_and_consent(files, tmp_path):
    consent = tmp_path / "consent.txt"
    consent.write_text("You agree to everything.\n")
    path = tmp_path / "study.sqlite"
    run(
        "create",
        f"one={files[0]}",
        f"two={files[1]}",
        "-o",
        path,
        "--prompts",
        4,
        "--unmatched",
        "--consent",
        consent,
        "--contact",
        "Ada",
        "--no-ties",
        "--methods",
        "two,one",
    )
    study = Study.open(path)
    assert study.methods == ["two", "one"]
    protocol = study.fact("protocol")
    assert (protocol["consent"], protocol["contact"]) == ("You agree to everything.", "Ada")
    assert protocol["ties"] is False
    assert study.fact("design")["matching"]["how"] == "off"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "cannot read none.jsonl"),
        (["--prompts", "99"], "99 prompts wanted"),
        (["--methods", "aligned,nudging"], "no rows of method 'nudging'"),
        (["--methods", "aligned"], "at least two"),
        (["--responses", "9"], "0 usable"),
        (["--quality-field", "reward"], "automatic quality"),
        (["--consent", "none.txt"], "cannot read the text file none.txt"),
    ],
)
def test_create_complains_in_one_line(files, tmp_path, arguments, message):
    out = tmp_path / "new.sqlite"
    said = run("create", *files, "-o", out, "--prompts", 6, *arguments, fails=InputError)
    if message != "0 usable":
        assert message in said
    else:
        assert "only 0 of 0 usable" in said
    assert not out.exists()


def test_create_overwrites_nothing(study, files):
    before = study.read_bytes()
    said = run("create", *files, "-o", study, "--prompts", 6, fails=InputError)
    assert "exists" in said
    assert study.read_bytes() == before


def test_links_invite_more(study):
    assert run("links", study).count("/#") == 2
    said = run("links", study, "--add", 1, "--name", "Grace")
    assert said.count("/#") == 4
    assert "A3  Grace:" in said


def test_rehearse_report_export(study, tmp_path):
    pytest.importorskip("matplotlib")
    copy, out = tmp_path / "rehearsal.sqlite", tmp_path / "report"
    said = run("simulate", "--rehearse", study, "--raters", 3, "-o", copy)
    assert "3 SIMULATED annotators" in said
    assert Study.open(study).votes() == []
    said = run("report", copy, "-o", out)
    assert "SIMULATED annotators, no human data" in said
    assert {path.name for path in out.iterdir()} == {
        "report.html",
        "report.json",
        "tables.md",
        "tables.tex",
        "results.csv",
        "values.csv",
        "wins.svg",
        "ratings.svg",
        "metrics.svg",
    }
    assert "Simulated annotators: no human judged" in (out / "report.html").read_text()
    cells = list(csv.reader((out / "results.csv").read_text().splitlines()))
    assert cells[0] == ["", "aligned", "baco"]
    (plain,) = json.loads(run("report", copy, "--json"))
    assert plain["simulated"] is True
    assert plain["title"] == "Mine"
    rows = [json.loads(line) for line in run("export", copy).splitlines()]
    assert len(rows) == 12
    assert {"prompt", "method", "generations", "ratings", "votes"} <= set(rows[0])


def test_more_scores_are_correlated(study, tmp_path):
    copy = tmp_path / "rehearsal.sqlite"
    run("simulate", "--rehearse", study, "--raters", 2, "-o", copy)
    scores = tmp_path / "scores.jsonl"
    opened = Study.open(copy)
    scores.write_text(
        "\n".join(
            json.dumps({"prompt": p, "method": m, "scores": {"vendi": at * (m == "baco")}})
            for at, p in enumerate(opened.prompts)
            for m in opened.methods
        )
    )
    (plain,) = json.loads(run("report", copy, "--scores", scores, "--json"))
    found = [c for c in plain["correlations"] if c["metric"] == "vendi"]
    assert {c["question"] for c in found} == {"overall", "format", "content", "creativity"}
    assert {c["units"] for c in found} == {6}


def test_simulate_prints_a_table_and_a_plot(tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "power.svg"
    said = run("simulate", "--prompts", "5,9", "--raters", "2", "--trials", 10, "--plot", plot)
    assert "SIMULATED power" in said
    assert plot.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "ten"], "no list of whole numbers"),
        (["--raters", "0"], "no list of whole numbers"),
        (["--win-rate", "1.5"], "--win-rate"),
        (["--rehearse", "x.sqlite"], "--out"),
        (["--rehearse", "x.sqlite", "-o", "y.sqlite"], "no study file"),
    ],
)
def test_simulate_complains_in_one_line(arguments, message):
    assert message in run("simulate", *arguments, fails=InputError)


def test_one_annotators_data_out_and_away(study):
    opened = Study.open(study)
    opened.accept(1)
    opened.comment(1, 0, "mine")
    data = json.loads(run("export", study, "--annotator", "A2"))
    assert data["comments"][0]["text"] == "mine"
    assert "aligned" not in json.dumps({**data, "screens": []})
    result = RUN.invoke(app, ["delete", str(study), "A2"], input="n\n")
    assert isinstance(result.exception, BacoError)
    assert opened.comments() != []
    assert "deleted" in run("delete", study, "A2", "--yes")
    assert opened.comments() == []
    assert "known: A1" in run("delete", study, "A2", "--yes", fails=InputError)


def test_a_question_that_nobody_answers_deletes_nothing(study, monkeypatch, capsys):
    from baco.cli import run as baco

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert baco(["study", "delete", str(study), "A1"]) == 2
    assert capsys.readouterr().err.strip().endswith("the question was not answered")
    assert Study.open(study).annotators()[0].token


def test_serve_needs_a_study(tmp_path):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    assert "no study file" in run("serve", tmp_path / "none.sqlite", fails=InputError)


def test_serve_says_when_the_port_is_taken(study):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = run("serve", study, "--port", port, fails=InputError)
    assert said == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_missing_packages_are_named(study):
    """Without the extra, the command says which one to install."""
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from baco.cli.study import app; app(['serve', sys.argv[1]])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(study)], capture_output=True, text=True, check=False
    )
    assert "baco[study]" in result.stderr
    assert "'uvicorn'" in result.stderr


def test_the_command_module_is_light():
    code = (
        "import sys, baco.cli.study\n"
        "heavy = {'torch', 'fastapi', 'scipy', 'matplotlib', 'numpy', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == "[]"


def test_docs_name_every_command():
    text = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"baco study {command.callback.__name__}" in text
