"""What token ids stand for, and whether two models can read each other's ids."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from baco.engine import Engine, Request, reference
from baco.engine.noise import row_key
from baco.engine.request import BASE
from baco.errors import PairError
from baco.models.tokens import (
    Tables,
    cuts_alike,
    read_tables,
    shares_ids,
    tables_of,
    token_bytes,
    vocabulary_of,
    vocabulary_size,
)
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from conftest import TEXT, save_model
from support.engines import run

MARK = "\u2581"


def fast(backend: Tokenizer, **options: object) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>", **options)


def byte_level(*raw: str) -> PreTrainedTokenizerFast:
    """A byte-level vocabulary, with raw pieces in it that no byte stands for."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *raw, "Ġcat"]
    backend = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return fast(backend)


def sentence_piece(decoder: object) -> PreTrainedTokenizerFast:
    """A vocabulary of characters and bytes, with marks for spaces."""
    pieces = [*(f"<0x{b:02X}>" for b in range(256)), MARK, *"abcdefghijklmnopqrstuvwxyz.,:'019"]
    backend = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    backend.decoder = decoder
    return fast(backend)


LLAMA = decoders.Sequence(
    [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(),
     decoders.Strip(" ", 1, 0)]
)  # fmt: skip


def trained(model: object, trainer: object, decoder: object, pre: object) -> object:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre
    backend.decoder = decoder
    backend.train_from_iterator([TEXT.lower(), "the quick brown fox, it's a dog: 10,000 words."],
                                trainer)  # fmt: skip
    return fast(backend)


SPECIAL = {"special_tokens": ["<e>", "[UNK]"], "show_progress": False}


def word_piece() -> object:
    return trained(
        models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=300, **SPECIAL),
        decoders.WordPiece(), pre_tokenizers.BertPreTokenizer(),
    )  # fmt: skip


def word_level(decoder: object = None) -> object:
    return trained(
        models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(**SPECIAL),
        decoder, pre_tokenizers.Whitespace(),
    )  # fmt: skip


def word_ends() -> object:
    return trained(
        models.BPE(end_of_word_suffix="</w>"),
        trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", **SPECIAL),
        decoders.BPEDecoder("</w>"), pre_tokenizers.Whitespace(),
    )  # fmt: skip


def without_spaces() -> object:
    return trained(
        models.BPE(), trainers.BpeTrainer(vocab_size=300, **SPECIAL), decoders.Fuse(),
        pre_tokenizers.Whitespace(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (word_piece, "WordPiece"),
        (word_level, "has no decoder"),
        (lambda: word_level(decoders.Fuse()), "loses text"),
        (word_ends, "BPEDecoder"),
        (without_spaces, "loses text.*thequickbrownfox"),
        (lambda: sentence_piece(decoders.CTC()), "CTC"),
        (lambda: sentence_piece(decoders.Strip(" ", 1, 0)), "Strip"),
        (lambda: sentence_piece(decoders.Fuse()), "loses text"),
    ],
)
def test_kinds_whose_bytes_are_not_known_are_refused(make, message):
    with pytest.raises(PairError, match=message):
        token_bytes(make())


def test_slow_tokenizers_are_refused():
    with pytest.raises(PairError, match="object is not a fast tokenizer"):
        token_bytes(object())


def test_a_raw_character_in_a_byte_level_vocabulary_stands_for_itself():
    tokenizer = byte_level("日", "a日")
    tokens = token_bytes(tokenizer)
    for piece, data in {"日": "日".encode(), "a日": "a日".encode(), "Ġcat": b" cat"}.items():
        number = tokenizer.convert_tokens_to_ids(piece)
        assert tokens[number] == data
        assert tokenizer.decode([number]).encode() == data
    assert tokens[tokenizer.convert_tokens_to_ids("Ċ")] == b"\n"


@pytest.mark.parametrize("decoder", [LLAMA, decoders.Metaspace(), decoders.Replace(MARK, " ")])
def test_marks_are_spaces_and_bytes_are_bytes_where_the_decoder_says_so(decoder):
    tokenizer = sentence_piece(decoder)
    tokens = token_bytes(tokenizer)
    assert tokens[tokenizer.convert_tokens_to_ids(MARK)] == b" "
    line = tokens[tokenizer.convert_tokens_to_ids("<0x0A>")]
    assert line == (b"\n" if decoder is LLAMA else b"<0x0A>")


def test_ids_may_have_gaps():
    """An id above the number of tokens was left out, and with it the end of every answer."""
    pieces = {p: i for i, p in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(pieces | {"<end>": 400}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    assert vocabulary_size(tokenizer) == 401 > len(tokenizer)
    assert len(token_bytes(tokenizer)) == 401
    vocabulary = vocabulary_of(tokenizer, {400})
    assert vocabulary.end_ids == {400}
    assert not vocabulary.allowed[300:400].any()


def test_which_ids_are_shared():
    base = [b"a", b"b", b""]
    assert shares_ids(base, base, [])
    assert shares_ids(base, [*base, b"", b""], [])
    assert shares_ids([*base, b""], base, [])
    assert shares_ids(base, [*base, b"<end>"], [3])
    assert not shares_ids(base, [*base, b"<think>"], [])  # the base model could not read it
    assert not shares_ids(base, [b"a", b"c", b""], [])
    assert not shares_ids(base, [b"a", b"c", b"", b""], [])


# --- an aligned tokenizer with a few more tokens ----------------------------------------------

ASK = conversation_of("Name a fruit.")


def save_pair(root: Path, folders: tuple[Path, Path], *, special: bool, wide: int = 0) -> None:
    """A base model of 400 ids, and an aligned one with a turn's end and two more tokens."""
    base, aligned = root / "base", root / "aligned"
    for source, target in zip(folders, (base, aligned), strict=True):
        shutil.copytree(source, target)
    tokenizer = AutoTokenizer.from_pretrained(aligned)
    assert len(tokenizer) <= 400
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True), AddedToken("<|x|>", special=True)])
    tokenizer.add_tokens([AddedToken("<|think|>", special=special)])
    tokenizer.eos_token = "<|turn|>"
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|turn|>")
    tokenizer.save_pretrained(aligned)
    save_model(base, seed=0, vocabulary=vocabulary_size(AutoTokenizer.from_pretrained(base)) + wide)
    save_model(aligned, seed=1, vocabulary=len(tokenizer))


@pytest.mark.parametrize("wide", [0, 2])
def test_an_aligned_tokenizer_with_more_special_tokens_shares_ids(
    random_folders, tmp_path, caplog, wide
):
    save_pair(tmp_path, random_folders, special=True, wide=wide)
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(tmp_path / "base", tmp_path / "aligned", device="cpu", dtype="float64")
    assert not caplog.records
    assert pair.one_tokenizer
    assert pair.base.abilities.rewinds
    size, more = (vocabulary_size(AutoTokenizer.from_pretrained(tmp_path / side))
                  for side in ("base", "aligned"))  # fmt: skip
    assert more == size + 3
    prompts = pair.prompt_ids(ASK)
    assert max(prompts[0]) < size <= max(prompts[1])
    # What only the aligned model knows, the base model never writes, but for an end that it scores.
    vocabulary = pair.base.vocabulary
    assert size in vocabulary.end_ids
    assert not vocabulary.allowed[size + 1 :].any()
    logits, own = pair.base.logits(prompts[0]), pair.base.model(torch.tensor([prompts[0]])).logits
    assert logits[: size + wide].equal(own[0, -1])
    assert (logits[size + wide :] == -torch.inf).all()
    with torch.no_grad():
        pair.aligned.model.lm_head.weight[size] *= 5  # so that answers end
    requests = [
        Request(*prompts, parse(spec), row_key(0, "p", i), max_new_tokens=16)
        for spec in ("rand@0.5", "p-punc@0.6", "pr@1", "h-fc@1")
        for i in range(3)
    ]
    wanted = [tuple(reference.decode(pair.base, pair.aligned, r)[:4]) for r in requests]
    assert {finish for *_, finish in wanted} == {"stop", "length"}
    assert any(BASE in sources for _, sources, *_ in wanted)
    for lookahead, rows in (("off", 12), (4, 12), (4, 5)):
        engine = Engine(pair.base, pair.aligned, lookahead=lookahead, max_rows=rows)
        assert run(engine, requests) == wanted


def test_the_same_samples_as_with_one_tokenizer_on_both_sides(random_folders, tmp_path):
    """A base model that knows the ids, and gives them nothing, says the same."""
    save_pair(tmp_path, random_folders, special=True)
    pair = Pair(tmp_path / "base", tmp_path / "aligned", device="cpu", dtype="float64")
    model = pair.base.model
    size = model.lm_head.weight.shape[0]
    model.resize_token_embeddings(size + 3, mean_resizing=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "aligned")

    class Silent(torch.nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            out[..., size:] = -1e9
            return out

    head = Silent(model.lm_head.in_features, size + 3, bias=False, dtype=torch.float64)
    head.weight = model.lm_head.weight
    model.set_output_embeddings(head)
    same = Pair(model, pair.aligned.model, base_tokenizer=tokenizer, aligned_tokenizer=tokenizer)
    options = {"n": 8, "router": "rand@0.5", "max_new_tokens": 30}
    again = same.generate("Name a fruit.", **options)
    group = Pair(tmp_path / "base", tmp_path / "aligned", device="cpu", dtype="float64").generate(
        "Name a fruit.", **options
    )
    assert [s.token_ids for s in group] == [s.token_ids for s in again]
    assert [s.sources for s in group] == [s.sources for s in again]


def test_a_base_tokenizer_with_more_special_tokens_shares_ids_too(random_folders, tmp_path):
    base, aligned = random_folders
    shutil.copytree(base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([AddedToken("<|fim|>", special=True)])
    tokenizer.save_pretrained(tmp_path / "base")
    save_model(tmp_path / "base", seed=0, vocabulary=len(tokenizer))
    save_model(tmp_path / "short", seed=1, vocabulary=len(tokenizer) - 1)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(aligned / name, tmp_path / "short")
    pair = Pair(tmp_path / "base", tmp_path / "short", device="cpu")
    assert pair.one_tokenizer
    assert pair.generate("Hi", n=3, max_new_tokens=12, router="rand@0.5").base_share > 0


def test_added_text_that_the_base_model_cannot_read_is_exchanged_as_text(
    random_folders, tmp_path, caplog
):
    save_pair(tmp_path, random_folders, special=False)
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(tmp_path / "base", tmp_path / "aligned", device="cpu")
    assert not pair.one_tokenizer
    assert "exchange text" in caplog.text


def test_a_refused_tokenizer_is_said_before_the_weights_are_read(random_folders, tmp_path):
    base, aligned = random_folders
    shutil.copytree(base, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    word_piece().save_pretrained(tmp_path / "base")
    with pytest.raises(PairError, match="WordPiece"):
        Pair(tmp_path / "base", aligned)


# --- tables on disk ----------------------------------------------------------------------------


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of its own in which tables of every size are kept."""
    monkeypatch.setenv("BACO_CACHE", str(tmp_path))
    monkeypatch.setattr("baco.models.tokens.LARGE", 1)
    monkeypatch.setattr("baco.models.tokens._KNOWN", {})
    return tmp_path / "tokens"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the next look-up come from the disk, or be worked out anew."""
    monkeypatch.setattr("baco.models.tokens._KNOWN", {})


def same(one: Tables, other: Tables) -> bool:
    return one.tokens == other.tokens and all(
        torch.equal(a, b)
        for a, b in zip((*one.units, *one[2:]), (*other.units, *other[2:]), strict=True)
    )


def test_tables_are_worked_out_once(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level("\u2581\u2581", "né")
    fresh = tables_of(tokenizer)
    assert tables_of(tokenizer) is fresh
    assert len(list(kept.iterdir())) == 1
    forget(monkeypatch)
    monkeypatch.setattr("baco.models.tokens._token_bytes", None)  # nobody needs it
    assert same(tables_of(tokenizer), fresh)


def test_tables_belong_to_what_the_tokenizer_holds(kept: Path) -> None:
    plain, other = byte_level(), byte_level("raw")
    special = byte_level()
    special.add_special_tokens({"additional_special_tokens": ["Ġcat"]})
    tables = [tables_of(tokenizer).tokens for tokenizer in (plain, other, special)]
    assert tables[0] != tables[1]
    assert tables[2][tables[0].index(b" cat")] == b""
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_damaged_tables_are_worked_out_anew(
    damage: bytes | None, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level()
    fresh = tables_of(tokenizer)
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:-9] if damage is None else damage)
    forget(monkeypatch)
    assert same(tables_of(tokenizer), fresh)
    forget(monkeypatch)
    assert read_tables(file.stem) is not None  # and were kept again


def test_no_place_for_tables(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write_text("a file where the folder should be")
    assert tables_of(byte_level()).tokens


def test_refusals_are_not_kept(kept: Path) -> None:
    backend = Tokenizer(models.BPE({"a": 0}, []))
    for _ in range(2):
        with pytest.raises(PairError, match="has no decoder"):
            tables_of(fast(backend))
    assert not kept.exists()


def test_small_vocabularies_are_not_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baco.models.tokens.LARGE", 8192)
    assert tables_of(byte_level()).tokens
    assert not kept.exists()


@pytest.mark.parametrize("form", [normalizers.NFC, normalizers.NFKC])
def test_tokenizers_that_read_the_same_letters_differently_do_not_cut_alike(form: type) -> None:
    one, other = byte_level(), byte_level()
    assert cuts_alike(one, other)
    other.backend_tokenizer.normalizer = form()
    assert not cuts_alike(one, other)
