"""``baco generate`` as users type it, on a pair with random weights."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
import time
from pathlib import Path

import pytest

from baco.cli import run
from baco.cli.render import safe
from baco.group import FIELDS, Sample

ASK = "What is the capital of France?"


@pytest.fixture(autouse=True)
def loaded_once(random_pair, monkeypatch):
    """Lets ``--pair random,random`` mean the pair that tests share, loaded once."""
    import baco.cli.job

    def load(name, **options):
        assert name == "random,random"
        return random_pair

    monkeypatch.setattr(baco.cli.job, "load", load)


def generate(*arguments: str) -> int:
    return run(["generate", "--pair", "random,random", "--max-new-tokens", "12", *arguments])


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_group_with_its_summary(capsys, random_pair):
    assert generate(ASK, "-n", "3") == 0
    out = capsys.readouterr().out
    group = random_pair.generate(ASK, n=3, max_new_tokens=12)
    assert out.startswith(f"{ASK}\n\n1  ")
    assert out.endswith(f"\n\n{group.summary}\n")
    assert "\x1b" not in out


def test_sources_are_marked_where_there_is_no_colour(capsys, random_pair):
    assert generate(ASK, "-n", "2", "--show-sources", "--router", "rand@0.5") == 0
    out = capsys.readouterr().out
    sample = random_pair.generate(ASK, n=2, max_new_tokens=12, router="rand@0.5")[0]
    first = next(t for t, s in zip(sample.tokens, sample.sources, strict=True) if s == "base")
    assert "«" in out
    assert f"«{safe(first.strip())}" in out
    assert "Words of the base model look «like this»" in out


def test_json_rows(capsys, random_pair):
    assert generate(ASK, "Hi", "-n", "2", "--json", "--router", "h", "--gamma", "2.5") == 0
    samples = [Sample.from_dict(row) for row in rows(capsys.readouterr().out)]
    groups = random_pair.generate([ASK, "Hi"], n=2, max_new_tokens=12, router="h@2.5")
    assert samples == [sample for group in groups for sample in group]
    assert list(samples[0].as_dict()) == list(FIELDS)


def test_prompts_from_files_and_stdin(tmp_path, capsys, monkeypatch):
    lines = tmp_path / "prompts.txt"
    lines.write_text("\ufeffHi\r\n\nName a fruit.\n")
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    talk.append({"role": "user", "content": "Go on."})
    objects = tmp_path / "prompts.jsonl"
    objects.write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"id": 1, "prompt": "Hi", "category": "x"},
                {"messages": talk},
                {"prompt": talk},
                "Name a fruit.",
            )
        )
    )
    assert generate("-n", "1", "--json", "--input", str(lines)) == 0
    assert [r["prompt"] for r in rows(capsys.readouterr().out)] == ["Hi", "Name a fruit."]
    assert generate("-n", "1", "--json", "--input", str(objects)) == 0
    out, err = capsys.readouterr()
    assert [r["prompt"] for r in rows(out)] == ["Hi", talk, "Name a fruit."]
    assert err == "baco: 1 repeated prompts are left out\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "From stdin"}\n')))
    assert generate("Before", "-n", "1", "--json", "--input", "-", "--system", "Brief.") == 0
    prompts = [r["prompt"] for r in rows(capsys.readouterr().out)]
    assert [[m["content"] for m in p] for p in prompts] == [
        ["Brief.", "Before"],
        ["Brief.", "From stdin"],
    ]


def test_control_characters_do_not_reach_the_terminal(capsys):
    assert generate("Hi", "-n", "8", "--method", "base") == 0
    out = capsys.readouterr().out
    assert not [c for c in out if ord(c) < 32 and c != "\n"]
    assert "\x7f" not in out


def test_the_filter_withholds_and_says_so(capsys, tmp_path, monkeypatch, random_pair):
    bad = random_pair.generate(ASK, n=3, max_new_tokens=12)[1].text
    (tmp_path / "rules_of_cli_test.py").write_text(
        f"def allow(prompt, text):\n    return text != {bad!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert generate(ASK, "-n", "3", "--filter", "rules_of_cli_test:allow") == 0
    out, err = capsys.readouterr()
    assert "2  (withheld by the filter)" in out
    assert "1 of 3 samples were withheld by the filter" in err


def test_the_same_seed_the_same_samples(capsys):
    generate("Hi", "--json", "-n", "2", "--seed", "5")
    first = capsys.readouterr().out
    generate("Hi", "--json", "-n", "2", "--seed", "5", "--lookahead", "off", "--max-rows", "1")
    assert capsys.readouterr().out == first
    generate("Hi", "--json", "-n", "2", "--seed", "6")
    assert capsys.readouterr().out != first


# --- --output --------------------------------------------------------------------------------


def test_output_grows_by_what_is_missing(tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    assert generate(ASK, "-n", "2", "--output", str(path)) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"baco: 2 new samples in {path}\n"
    before = path.read_text()
    assert generate(ASK, "Hi", "-n", "3", "--output", str(path)) == 0
    assert capsys.readouterr().err == f"baco: 4 new samples in {path}, 2 were there already\n"
    assert path.read_text().startswith(before)
    assert generate(ASK, "Hi", "-n", "3", "--output", str(path)) == 0
    assert capsys.readouterr().err == f"baco: 0 new samples in {path}, 6 were there already\n"
    keys = [(r["prompt"], r["index"]) for r in rows(path.read_text())]
    assert sorted(keys) == sorted((p, i) for p in (ASK, "Hi") for i in range(3))
    # Another seed or threshold is another sample.
    assert generate(ASK, "-n", "1", "--seed", "1", "--output", str(path)) == 0
    assert generate(ASK, "-n", "1", "--gamma", "0.5", "--output", str(path)) == 0
    assert len(rows(path.read_text())) == 8


@pytest.mark.parametrize("kept", [0, 1, 7, 11, 60, -1])
def test_a_torn_last_line_is_made_again(tmp_path, capsys, kept):
    path = tmp_path / "out.jsonl"
    generate(ASK, "-n", "3", "--output", str(path))
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    assert generate(ASK, "-n", "3", "--output", str(path)) == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("my diary", "line 1: not a sample that baco wrote"),
        ("my diary\n", "line 1: not a sample that baco wrote"),
        ('{"prompt": "Hi"}\n', "line 1: a sample lacks 'index'"),
        ("[1]\n", "line 1: "),
    ],
)
def test_other_peoples_files_are_left_alone(tmp_path, capsys, content, message):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    assert generate("Hi", "--output", str(path)) == 2
    assert f"{path}, {message}" in capsys.readouterr().err
    assert path.read_text() == content


def test_other_settings_are_not_mixed_in(tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    generate("Hi", "-n", "1", "--output", str(path))
    capsys.readouterr()
    assert generate("Hi", "-n", "2", "--output", str(path), "--temperature", "0.5") == 2
    err = capsys.readouterr().err
    assert f"baco: {path} was written with temperature 1.0, not 0.5" in err
    assert generate("Hi", "-n", "2", "--output", str(path), "--dtype", "bfloat16") == 2
    assert "was written with dtype 'auto', not 'bfloat16'" in capsys.readouterr().err
    assert len(rows(path.read_text())) == 1


def test_penalties_are_those_of_python(tmp_path, capsys, random_pair):
    given = ("--penalty", "repetition_penalty=1.5", "--penalty", "logit_bias=5:-100,6:2.5")
    assert generate(ASK, "-n", "2", "--json", *given) == 0
    texts = [row["text"] for row in rows(capsys.readouterr().out)]
    how = {"repetition_penalty": 1.5, "logit_bias": {5: -100, 6: 2.5}, "max_new_tokens": 12}
    assert texts == random_pair.generate(ASK, 2, **how).texts
    assert texts != random_pair.generate(ASK, 2, max_new_tokens=12).texts
    path = tmp_path / "out.jsonl"
    generate("Hi", "-n", "1", "--output", str(path))
    settings = tmp_path / "out.jsonl.settings.json"
    old = json.loads(settings.read_text())
    del old["penalties"]  # as an earlier version wrote it
    settings.write_text(json.dumps(old))
    assert generate("Hi", "-n", "2", "--output", str(path), *given) == 2
    assert "was written with penalties {}" in capsys.readouterr().err


def test_samples_with_other_controls_live_side_by_side(tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    for control in ("0.5", "1", "0.5"):
        given = ("--method", "aligned", "--control", control, "--output", str(path))
        assert generate("Hi", "-n", "2", *given) == 0
    assert [row["control"] for row in rows(path.read_text())] == [0.5, 0.5, 1.0, 1.0]
    assert "0 new samples" in capsys.readouterr().err
    assert generate("Hi", "-n", "2", "--control", "0.2", "--output", str(path)) == 0
    assert [row["gamma"] for row in rows(path.read_text())][-2:] == [0.2, 0.2]


def test_two_runs_do_not_write_one_file(tmp_path, capsys):
    from baco.cli.output import Output

    path = tmp_path / "out.jsonl"
    with Output(path):
        assert generate("Hi", "--output", str(path)) == 2
    assert "another run is writing to" in capsys.readouterr().err


def test_nothing_is_left_behind_where_nothing_was_made(tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    assert generate("Hi", "--output", str(path), "--router", "nope") == 2
    assert not path.exists()


def test_an_interrupted_run_keeps_what_is_finished(tmp_path, capsys, monkeypatch, random_pair):
    from baco.methods.base import Done

    path = tmp_path / "out.jsonl"
    real = type(random_pair).run

    def interrupted(self, *arguments, **options):
        for update in real(self, *arguments, **options):
            yield update
            if isinstance(update, Done):
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(random_pair), "run", interrupted)
        assert generate("Hi", "-n", "3", "--output", str(path)) == 130
    assert capsys.readouterr().err == f"baco: interrupted; 1 new samples are in {path}\n"
    assert len(rows(path.read_text())) == 1
    assert generate("Hi", "-n", "3", "--output", str(path)) == 0
    assert sorted(r["index"] for r in rows(path.read_text())) == [0, 1, 2]


def test_a_full_disk_leaves_whole_lines(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    import signal

    path = tmp_path / "out.jsonl"
    generate("Hi", "-n", "1", "--output", str(path))
    size = path.stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, old[1]))
        assert generate("Hi", "-n", "4", "--output", str(path)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    err = capsys.readouterr().err
    assert f"baco: cannot write {path}: File too large" in err
    assert "make room and run the same command again" in err
    assert path.stat().st_size == size
    assert generate("Hi", "-n", "4", "--output", str(path)) == 0
    assert len(rows(path.read_text())) == 4


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no prompt"),
        ([""], "the prompt is empty (write what you want answers to)"),
        (["Hi", "   "], "the prompt is empty"),
        (["Hi", "--router", ""], "the router spec is empty"),
        (["Hi", "--router", "p-pnc"], "unknown router 'p-pnc' (did you mean 'p-punc'"),
        (["Hi", "--method", "alligned"], "unknown method 'alligned' (did you mean 'aligned'"),
        (["Hi", "--gamma", "1.5"], "1.5 is out of range for router 'p' (use a value in [0, 1])"),
        (["Hi", "--router", "p@nan"], "threshold nan is out of range"),
        (["Hi", "--gamma", "x"], "threshold 'x' is neither a number nor a schedule"),
        (["Hi", "-n", "0"], "n = 0 is out of range (ask for at least 1 sample)"),
        (["Hi", "-n", "-3"], "n = -3 is out of range"),
        (["Hi", "-n", "100001"], "n = 100001 is out of range (ask for at most 100000 samples"),
        (["Hi", "--control", "0.2", "--gamma", "0.2"],
         "control and gamma are both given (the control of 'baco' is the router's threshold"),
        (["Hi", "--method", "base", "--control", "hot"], "temperature 'hot' of the method"),
        (["Hi", "--temperature", "-0.5"], "temperature -0.5 is out of range"),
        (["Hi", "--temperature", "nan"], "temperature nan is out of range"),
        (["Hi", "--top-p", "0"], "top-p 0.0 is out of range"),
        (["Hi", "--top-k", "-1"], "top-k -1 is out of range"),
        (["Hi", "--min-p", "2"], "min-p 2.0 is out of range"),
        (["Hi", "--max-new-tokens", "0"], "max-new-tokens 0 is out of range"),
        (["Hi", "--gamma", "0.3", "--diversity", "0.5"], "diversity and gamma are both given"),
        (["Hi", "--router", "p@0.1", "--gamma", "0.3"], "names its threshold and gamma"),
        (["Hi", "--router", "p@0.1", "--diversity", "0.3"], "names its threshold and diver"),
        (["Hi", "--diversity", "0.3"], "not calibrated for router 'p-punc' (run: baco cal"),
        (["Hi", "--diversity", "1.3"], "diversity 1.3 is out of range"),
        (["Hi", "--judge-model", "x"], "the judge has a model but no address"),
        (["Hi", "--judge-url", "x", "--judge-model", "y"], "the judge's address 'x' is no"),
        (["Hi", "--method", "base", "--gamma", "0.3"], "the method 'base' has no gamma"),
        (["Hi", "--lookahead", "far"], "look-ahead 'far' is out of range"),
        (["Hi", "--lookahead", "0"], "look-ahead 0 is out of range"),
        (["Hi", "--max-rows", "0"], "max_rows 0 is out of range"),
        (["Hi", "--stop", ""], "a stop string is empty"),
        (["Hi", "--filter", "nope"], "filter 'nope' is not module:function"),
        (["Hi", "--ban", "/dev/null"], "/dev/null has no phrases (write one on each line)"),
        (["Hi", "--input", "/no/such"], "cannot read /no/such: No such file or directory"),
        (["Hi", "--output", "/no/such/folder/x"], "cannot write /no/such/folder/x"),
        (["Hi", "--output", "/dev/null"], "/dev/null is not a file"),
        (["Hi", "--output", ""], ". is not a file"),
        (["so " * 600], "tokens, the context window 512 (prompt: 'so so"),
        (["Hi", "-n", "many"], "'-n'"),
        (["Hi", "--penalty", "repetition=2"], "did you mean 'repetition_penalty'"),
        (["Hi", "--penalty", "dry_multiplier"], "cannot read the penalty 'dry_multiplier'"),
        (["Hi", "--penalty", "logit_bias=5"], "--penalty logit_bias=12:-5,40:2"),
        (["Hi", "--penalty", "logit_bias=99999:1"], "a token id that is not below"),
        (["Hi", "--penalty", "dry_base=1.2", "--penalty", "dry_base=2"], "is given twice"),
        (["Hi", "--colour"], "No such option"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(capsys, arguments, message):
    assert run(["generate", "--pair", "random,random", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("baco: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "Hi"}\n{"prompt": \n', "line 2: not valid JSON"),
        (b'{"prompt": "Hi"}\n\n{"prompt": ""}\n', "line 3: the prompt is empty"),
        (b'{"promt": "Hi"}\n', "line 1: the object has neither prompt nor messages"),
        (b'{"prompt": "Hi", "messages": []}\n', "line 1: the object has both prompt and messages"),
        (b"[1, 2]\n", "line 1: int instead of an object"),
        (b'{"prompt": 3}\n', "line 1: a prompt cannot be int"),
        (b'{"messages": [{"role": "user"}]}\n', "line 1: a message must have role and content"),
        (b'"ok"\n\xff\xfe\n', "line 2: not UTF-8 text"),
        (b"\n \n", "there is no prompt in"),
    ],
)
def test_malformed_files_name_the_line(tmp_path, capsys, content, message):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    assert run(["generate", "--input", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert str(path) in err
    assert err.count("\n") == 1


def test_a_folder_cannot_be_read(tmp_path: Path, capsys):
    assert run(["generate", "--input", str(tmp_path)]) == 2
    assert f"cannot read {tmp_path}: Is a directory" in capsys.readouterr().err


def test_a_dry_run_makes_nothing(tmp_path, capsys, random_pair):
    output = tmp_path / "groups.jsonl"
    assert generate(ASK, "Hi", "-n", "3", "--dry-run", "--output", str(output)) == 0
    lines = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()[:9])
    plan = {name.strip(): value for name, value in lines.items()}
    assert (plan["prompts"], plan["rows"], plan["tokens"]) == ("2", "6", "72")
    assert (plan["rows at a time"], plan["passes in lock step"]) == ("6", "24")
    assert plan["memory of weights"].endswith(" kB")
    assert not output.exists()

    assert generate(ASK, "-n", "2", "--output", str(output)) == 0
    capsys.readouterr()
    arguments = [ASK, "-n", "5", "--dry-run", "--json", "--output", str(output)]
    assert generate(*arguments, "--max-rows", "2") == 0
    [plan] = rows(capsys.readouterr().out)
    assert (plan["rows"], plan["rows_at_a_time"], plan["passes_in_lock_step"]) == (3, 2, 48)
    assert plan["memory_in_all_bytes"] > plan["memory_of_weights_bytes"]
    assert len(output.read_text().splitlines()) == 2
    assert generate(ASK, "-n", "2", "--dry-run", "--output", str(output)) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["rows", "0"]


def test_a_dry_run_says_what_distinct_may_add(capsys):
    assert generate("Hi", "-n", "2", "--distinct", "text", "--dry-run") == 0
    assert "drawn up to 5 times" in capsys.readouterr().out


def test_distinct_groups_are_made_whole(tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    given = ("--distinct", "text", "--output", str(path))
    assert generate("Hi", "-n", "2", *given) == 0
    assert [row["details"]["draws"] for row in rows(path.read_text())] == [1, 1]
    assert generate("Hi", "-n", "2", *given) == 0  # nothing is missing
    capsys.readouterr()
    assert generate("Hi", "-n", "3", *given) == 2
    assert "a group of distinct answers is made as a whole" in capsys.readouterr().err
    assert generate("Hi", "-n", "2", "--output", str(path)) == 2
    assert "was written with distinct 'text', not None" in capsys.readouterr().err


def test_a_dry_run_counts_a_draft_model(capsys, random_folders):
    small = str(random_folders[1])
    assert generate(ASK, "-n", "3", "--dry-run", "--json") == 0
    assert generate(ASK, "-n", "3", "--dry-run", "--json", "--draft", small) == 0
    plain, drafted = rows(capsys.readouterr().out)
    assert drafted["memory_of_weights_bytes"] > 1.4 * plain["memory_of_weights_bytes"]
    assert drafted["memory_of_a_row_bytes"] > plain["memory_of_a_row_bytes"]
    assert generate(ASK, "--dry-run", "--draft", "no-such-model") == 2
    assert "no-such-model" in capsys.readouterr().err


def test_a_dry_run_names_what_cannot_be_told(capsys, random_pair, monkeypatch):
    assert generate("word " * 600, "--dry-run") == 2
    assert "the context window 512 (prompt: 'word word" in capsys.readouterr().err
    monkeypatch.setattr("baco.cli.dryrun.need_of", lambda *_: None)
    assert generate(ASK, "--dry-run") == 2
    assert "the memory of the pair 'random' cannot be told beforehand" in capsys.readouterr().err


def test_a_dry_run_counts_one_side_of_a_single_model(capsys):
    assert generate(ASK, "-n", "1", "--dry-run", "--json") == 0
    assert generate(ASK, "-n", "1", "--dry-run", "--json", "--method", "base") == 0
    both, one = rows(capsys.readouterr().out)
    assert one["memory_of_weights_bytes"] * 2 == both["memory_of_weights_bytes"]
    assert one["passes_in_lock_step"] * 2 == both["passes_in_lock_step"]


def test_a_router_of_ones_own_by_its_name(capsys, tmp_path, monkeypatch):
    (tmp_path / "routes_of_cli_test.py").write_text(
        "def route(view, gamma):\n    return view.aligned.top_prob < gamma\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "routes_of_cli_test:route"
    made = {}
    for given in (
        (f"{name}@0.3",), (name, "--gamma", "0.3"), (name, "--control", "0.3"), (f"{name}@0",),
    ):  # fmt: skip
        assert generate(ASK, "-n", "1", "--json", "--router", *given) == 0
        (made[given],) = rows(capsys.readouterr().out)
    first, *same, never = made.values()
    assert (first["router"], first["gamma"]) == (name, 0.3)
    assert same == [first, first]
    assert never["base_share"] == 0 < first["base_share"]
    assert generate(ASK, "--router", name) == 2
    assert "has a threshold, and none is given" in capsys.readouterr().err


def test_a_prompt_without_quotes_gets_a_hint(capsys):
    assert generate("Name", "a", "fruit", "-n", "1") == 0
    said = capsys.readouterr().err
    assert 'if they are one prompt, put it in quotes: baco generate "Name a fruit"' in said
    assert generate(ASK, "Hi", "-n", "1") == 0
    assert generate("Hi", "-n", "1") == 0
    assert capsys.readouterr().err == ""


def test_every_setting_has_an_option():
    from inspect import signature

    from baco.cli.generate import OPTIONS
    from baco.methods.settings import PENALTIES, make_setting

    names = {option.name for option in OPTIONS} | {"turn_rule"}  # --run-on switches it off
    names |= set(PENALTIES)  # --penalty takes them all by name
    assert set(signature(make_setting).parameters) - {"calibration"} <= names


def test_a_long_wait_shows_itself_on_a_terminal_only(monkeypatch):
    from rich.console import Console

    from baco.cli import progress

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    for terminal in (True, False):
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=terminal)
        with progress.waiting("loading [my] pair", console):
            for _ in range(200 if terminal else 1):
                if "loading [my] pair" in shown.getvalue():
                    break
                time.sleep(0.05)
        assert ("loading [my] pair" in shown.getvalue()) == terminal


def test_loading_is_not_held_up_by_the_search_for_cycles():
    """And afterwards all is as it was, whatever happened."""
    from baco.cli import progress

    with contextlib.suppress(KeyError), progress.waiting("loading"):
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with progress.waiting("loading"):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
