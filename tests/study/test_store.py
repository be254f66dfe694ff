import sqlite3
import stat
import threading

import pytest

from baco.errors import InputError
from baco.study.store import Study, Vote

from .example import make_study


def test_the_file_is_private_and_opens_again(tmp_path):
    study = make_study(tmp_path)
    assert stat.S_IMODE(study.path.stat().st_mode) == 0o600
    study.close()
    again = Study.open(study.path)
    assert again.methods == ["plainwriter", "variedwriter"]
    assert again.fact("title") == "Ideas"
    assert len(again.prompts) == 4
    assert len(again.responses()) == 24


def test_a_study_that_cannot_be_opened_is_not_called_none(tmp_path):
    study = make_study(tmp_path)
    study.close()
    (tmp_path / f"{study.path.name}-wal").mkdir()  # as where the folder cannot be written
    with pytest.raises(InputError, match=r"cannot use the study file .* unable to open") as error:
        Study.open(study.path)
    assert "copy it to a folder of yours" in error.value.hint


def test_acknowledged_means_on_disk(tmp_path):
    study = make_study(tmp_path)
    values = {
        name: study._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete")
    }
    assert values == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


def test_every_choice_is_recorded(tmp_path):
    study = make_study(tmp_path, seed=7)
    record = study.fact("design")
    assert record["options"]["seed"] == 7
    assert record["matching"]["how"] == "random draws"
    assert len(study.candidates()) == 6
    assert {text for _, text in study.candidates()} == {"chosen", "not drawn"}


def test_files_that_are_no_study(tmp_path):
    study = make_study(tmp_path)
    with pytest.raises(InputError, match="exists"):
        study.copy(study.path)
    with pytest.raises(InputError, match="no study file"):
        Study.open(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("hello, this is no database at all" * 100)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.close()
    for name in ("text", "other"):
        with pytest.raises(InputError, match="is no study file"):
            Study.open(tmp_path / f"{name}.sqlite")
    study._db.execute("PRAGMA user_version=99")
    with pytest.raises(InputError, match="another version"):
        Study.open(study.path)


def test_links_cannot_be_guessed(tmp_path):
    study = make_study(tmp_path, annotators=50)
    tokens = [annotator.token for annotator in study.annotators()]
    assert len(set(tokens)) == 50
    assert all(len(token) >= 43 for token in tokens)  # 32 random bytes
    assert study.annotator(tokens[3]).id == 3
    assert study.annotator(tokens[3][:-1]) is None
    assert study.annotator("") is None
    assert study.annotator("ä") is None


def test_a_repeated_click_counts_once_and_does_not_undo_a_later_one(tmp_path):
    study = make_study(tmp_path)
    item = study.responses(0)[0].id
    study.vote("click-1", Vote(0, 0, "quality", item, 2), "2")
    study.vote("click-2", Vote(0, 0, "quality", item, 5), "5")
    study.vote("click-1", Vote(0, 0, "quality", item, 2), "2")
    assert [vote.choice for vote in study.votes()] == [5]
    assert [click[0] for click in study.clicks(0)] == ["click-1", "click-2"]


def test_the_same_click_name_of_two_annotators_are_two_clicks(tmp_path):
    study = make_study(tmp_path)
    for annotator in (0, 1):
        study.vote("click-1", Vote(annotator, 0, "overall", 0, None), "tie")
    assert len(study.votes()) == 2


def test_time_reports_add_up_once(tmp_path):
    study = make_study(tmp_path)
    for visit, active in (("v1", 1000), ("v1", 3000), ("v1", 2000), ("v2", 500)):
        study.visit(0, visit, 0, active)
    study.visit(1, "v1", 0, 9000)
    assert study.active_ms(0) == 3500


def test_forgetting_leaves_no_trace(tmp_path):
    study = make_study(tmp_path)
    token = study.annotators()[1].token
    for annotator in (1, 2):
        study.accept(annotator)
        study.vote(f"clickclick{annotator}", Vote(annotator, 0, "creativity", 0, 3), "3")
        study.comment(annotator, 0, f"a remark by number {annotator} in UNUSUAL words")
        study.visit(annotator, f"visitvisit{annotator}", 0, 10)
    study.forget(1)
    assert study.annotator(token) is None
    assert {vote.annotator for vote in study.votes()} == {2}
    assert study.comments(1) == study.clicks(1) == study.screens(1) == []
    gone = study.annotators()[1]
    assert (gone.name, gone.token, gone.accepted) == (None, None, None)
    assert gone.withdrawn is not None
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("study.sqlite*"))
    assert b"remark by number 2" in raw
    for trace in (b"remark by number 1", token.encode(), b"clickclick1", b"visitvisit1"):
        assert trace not in raw


def test_threads_may_write_at_the_same_time(tmp_path):
    study = make_study(tmp_path, annotators=8)
    items = [response.id for response in study.responses(0)]

    def work(annotator):
        for at, item in enumerate(items * 3):
            study.vote(f"click-{at}", Vote(annotator, 0, "quality", item, at % 5 + 1), "x")

    threads = [threading.Thread(target=work, args=(a,)) for a in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(study.votes()) == 8 * len(items)
    assert sum(len(study.clicks(a)) for a in range(8)) == 8 * 3 * len(items)
