"""llama.cpp as an engine: GGUF files at the speed of their own quantisation.

The low-level interface of llama-cpp-python is all that is used. Rows are sequences of one context:
equal prompts share their cells, a guess that was wrong is cut off, and every pass is one batch.
"""

from __future__ import annotations

import ctypes
import hashlib
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baco.engine.partner import Abilities, Partner, RowCache
from baco.engine.vocabulary import Vocabulary
from baco.errors import (
    InputError,
    PairError,
    UnknownNameError,
    UnsupportedError,
    clipped,
    first_line,
    missing_extra,
)
from baco.models.checkpoints import END_NAMES, MAIN, check_source, local_file
from baco.models.engines import Backend
from baco.models.gguf import ENDS, check_ids, check_start, is_gguf
from baco.models.known import BasePrompt
from baco.models.load import bridged, plain_template
from baco.models.recompute import RecomputeCache
from baco.models.sides import Models, Side, chat_encoder, plain_encoder, text_encoder
from baco.models.tokens import cuts_alike, shares_ids, vocabulary_over
from baco.prompts import PlainTemplate

_BATCH = 512
"""Most tokens given to llama.cpp at a time: what it computes together, and no more than any context
holds."""

_CELLS, _ROWS = 512, 16
"""Room of a new context, in tokens over all rows and in rows; it doubles when it is used up."""

_CONTROL = 1 << 3  # LLAMA_TOKEN_ATTR_CONTROL
_ERROR = 4  # GGML_LOG_LEVEL_ERROR

_SAMPLE = 1 << 20

_OWN = frozenset({"n_ctx", "n_batch", "n_seq_max", "kv_unified", "swa_full", "vocab_only"})
"""Parameters of llama.cpp that are set here."""

_said: deque[str] = deque(maxlen=50)


@cache
def _llama() -> Any:
    """Returns llama.cpp's functions; what it has to say of errors is kept for ours.

    Raises:
        BacoError: If the package is not installed.
        UnsupportedError: If it does not work on this machine.
    """
    try:
        from llama_cpp import llama_cpp
    except ImportError as error:
        raise missing_extra("llama_cpp", "llamacpp") from error
    except (OSError, RuntimeError) as error:
        raise UnsupportedError(
            f"llama-cpp-python does not work here: {first_line(error)}",
            hint="build it on this machine: pip install --no-cache-dir --force-reinstall "
            "--no-binary llama-cpp-python llama-cpp-python",
        ) from error

    def keep(level: int, text: bytes, _: object) -> None:
        if level == _ERROR:
            _said.append(text.decode(errors="replace").strip())

    log = llama_cpp.baco_log = llama_cpp.llama_log_callback(keep)  # to live as long as the library
    llama_cpp.llama_log_set(log, None)
    llama_cpp.llama_backend_init()
    return llama_cpp


def _why() -> str:
    """The first thing that llama.cpp said of an error: it names the cause, later ones do not."""
    return (_said[0].partition(": ")[2] or _said[0]) if _said else "it does not say why"


class Weights:
    """A GGUF file: one or both sides of a pair. Its weights are loaded by `read`.

    Args:
        source: The file.
        options: Parameters of llama.cpp, of its models and its contexts, by their names.

    Attributes:
        size: Number of token ids.
        tokens: The bytes of each; empty for tokens that never stand for text.
        ends: The ids that end an answer.
        chat_template: Its chat template; empty if it has none.
        window: The longest sequence, in tokens; known once it is read, as what follows.
        parameters: Number of weights.
        recurrent: Whether its state cannot be set back.

    Raises:
        PairError: If the file is not there, is damaged, or holds no model that writes text.
    """

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        lib = self._lib = _llama()
        self.path = _file(source)
        self.options = options
        self._free: weakref.finalize[..., Any] | None = None
        self._open(source, vocab_only=True)
        self._check_kind(source)
        self.size = lib.llama_vocab_n_tokens(self.vocab)
        self.tokens = [self._piece(i) for i in range(self.size)]
        self.ends = self._ends(source)
        self.chat_template = (lib.llama_model_chat_template(self.model, None) or b"").decode()

    def read(self) -> None:
        """Loads the weights themselves, once all that can be refused without them has been.

        Raises:
            PairError: If they cannot be loaded.
        """
        self._open(str(self.path), vocab_only=False)
        lib, model = self._lib, self.model
        self.window = lib.llama_model_n_ctx_train(model)
        self.parameters = lib.llama_model_n_params(model)
        self.recurrent = bool(
            lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model)
        )

    def _open(self, source: str, *, vocab_only: bool) -> None:
        lib = self._lib
        params = _with(lib.llama_model_default_params(), self.options)
        params.vocab_only = vocab_only
        _said.clear()
        model = lib.llama_model_load_from_file(str(self.path).encode(), params)
        if not model:
            raise PairError(
                f"llama.cpp cannot load {source}: {_why()}",
                hint="download it again; or it is of a kind that this llama-cpp-python does not "
                "know",
            )
        if self._free is not None:
            self._free()
        self.model, self._free = model, weakref.finalize(self, lib.llama_model_free, model)
        self.vocab = lib.llama_model_get_vocab(model)

    def _meta(self, key: str) -> str:
        """A value of the file's header as text; empty if it is not there."""
        buffer = ctypes.create_string_buffer(256)
        size = self._lib.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if size > 0 else ""

    def _check_kind(self, source: str) -> None:
        """Raises PairError for encoders, embedding models and diffusion models."""
        kind = self._meta("general.architecture")
        embeds = (
            self._meta(f"{kind}.pooling_type") not in ("", "0")
            or self._meta(f"{kind}.attention.causal") == "false"
        )
        lib = self._lib
        if (
            embeds
            or lib.llama_model_has_encoder(self.model)
            or not lib.llama_model_has_decoder(self.model)
            or lib.llama_model_is_diffusion(self.model)
        ):
            raise PairError(
                f"{source} is no model that writes text token by token ({kind})",
                hint="BaCo needs decoder-only language models; this one may be for embeddings",
            )

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        size = self._lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = self._lib.llama_token_to_piece(self.vocab, token, buffer, -size, 0, False)
        return buffer.raw[:size]

    def name(self, token: int) -> str:
        """How a token is written, special ones included; empty for none (-1)."""
        text = self._lib.llama_vocab_get_text(self.vocab, token) if token >= 0 else b""
        return (text or b"").decode(errors="replace")

    def _ends(self, source: str) -> set[int]:
        """The ends that the file names, and special tokens that are known to be ends.

        Where a file names none, llama.cpp takes an id by the kind of tokenizer, which may be text.

        Raises:
            PairError: If the file names an id that it does not have.
        """
        lib, vocab = self._lib, self.vocab
        given = (self._meta(f"tokenizer.ggml.{name}_token_id") for name in ENDS)
        named = {int(i) for i in given if i}
        check_ids(source, named, self.size)
        special = {i for i in range(self.size) if lib.llama_vocab_get_attr(vocab, i) & _CONTROL}
        known = {i for i in special if self.name(i) in END_NAMES}
        return named | known | (special & {lib.llama_vocab_eos(vocab), lib.llama_vocab_eot(vocab)})

    @property
    def revision(self) -> str:
        """A word that changes when the file does: a hash of its size, beginning and end."""
        size = self.path.stat().st_size
        state = hashlib.blake2b(f"{size}".encode(), digest_size=6)
        with self.path.open("rb") as file:
            state.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            state.update(file.read(_SAMPLE))
        return state.hexdigest()


class Tokenizer:
    """A GGUF file's tokenizer, with as much of transformers' interface as prompts need.

    Args:
        weights: The file.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.chat_template = weights.chat_template

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        """Returns the ids of a text as ``input_ids``, as transformers' tokenizers do."""
        return {"input_ids": self.encode(text, options.get("add_special_tokens", True))}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Returns the ids of a text; special tokens that are written out count as such."""
        lib, data = _llama(), text.encode()
        room = len(data) + 8
        ids = (lib.llama_token * room)()
        count = lib.llama_tokenize(
            self._weights.vocab, data, len(data), ids, room, add_special_tokens, True
        )
        if count < 0:
            raise InputError("llama.cpp cannot encode a text", hint="shorten the prompt")
        return list(ids[:count])

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """Writes a conversation by a chat template, through transformers."""
        from tokenizers import Tokenizer as Empty
        from tokenizers.models import BPE
        from transformers import PreTrainedTokenizerFast

        lib, vocab = _llama(), self._weights.vocab
        writer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=Empty(BPE()),
            bos_token=self._weights.name(lib.llama_vocab_bos(vocab)),
            eos_token=self._weights.name(lib.llama_vocab_eos(vocab)),
        )
        text: str = writer.apply_chat_template(messages, **options)
        return text


class LlamaPartner(Partner):
    """A model of llama.cpp.

    Args:
        weights: The loaded file.
        vocabulary: Tables over its token ids; share the object between partners that share ids.
        side: Which side it is, for errors.
    """

    device = torch.device("cpu")

    def __init__(self, weights: Weights, vocabulary: Vocabulary, side: str) -> None:
        self.model = weights
        self.vocabulary = vocabulary
        self.context_window = weights.window
        self.parameters = weights.parameters
        self.abilities = Abilities(rewinds=not weights.recurrent)
        self.label = f"the {side} model {weights.path.name} (llama.cpp)"
        self._alone = Sequences(weights)

    @property
    def weights(self) -> object:
        """The loaded file."""
        return self.model

    def new_cache(self) -> RowCache:
        """Returns an empty cache for a new batch."""
        return LlamaCache(self) if self.abilities.rewinds else RecomputeCache(self)

    def shared_cache(self, other: Partner) -> RowCache | None:
        """Returns a cache of both sides' rows, if they are two prompts of one file."""
        same = isinstance(other, LlamaPartner) and other is not self and other.model is self.model
        return self.new_cache() if same and self.abilities.rewinds else None

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after a whole sequence, without cache: float32 [vocabulary]."""
        return self._read(ids, [len(ids) - 1])[0]

    def all_logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Logits after each token of a sequence, without cache: float32 [n, vocabulary]."""
        return self._read(ids, range(len(ids)))

    def _read(self, ids: Sequence[int], wanted: Sequence[int]) -> torch.Tensor:
        self._alone.cut(0, 0)
        return self.over_all_ids(self._alone.decode(ids, [0] * len(ids), range(len(ids)), wanted))

    def over_all_ids(self, logits: torch.Tensor) -> torch.Tensor:
        """Gives no probability to ids that only the other side knows: [n, own] -> [n, all]."""
        missing = self.vocabulary.size - logits.shape[-1]
        return (
            torch.nn.functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits
        )


class Sequences:
    """A context of llama.cpp, which holds sequences by number; it grows as they do.

    Args:
        weights: The loaded file.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._lib = _llama()
        self._context: Any = None
        self._free: weakref.finalize[..., Any] | None = None
        self._cells, self._rows = _CELLS, _ROWS
        self._batch = _Fed(self._lib)

    def reserve(self, rows: int) -> None:
        """Makes room for sequences 0..rows-1; a context that was not used yet has none to move."""
        if rows > self._rows or self._context is None:
            self._grow(self._cells, max(rows, self._rows))

    def _grow(self, cells: int, rows: int) -> None:
        """Makes a larger context and moves what there is into it, as it is.

        Raises:
            torch.OutOfMemoryError: If there is no memory for it, or it cannot hold so many rows.
        """
        lib = self._lib
        most = lib.llama_max_parallel_sequences()
        if rows > most:
            raise torch.OutOfMemoryError(f"llama.cpp holds at most {most} sequences, not {rows}")
        rows = min(most, -(-rows // _ROWS) * _ROWS)
        params = lib.llama_context_default_params()
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        if not lib.llama_supports_gpu_offload():
            # Half precision would make what a row says depend on how many tokens a pass reads.
            params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
        params = _with(params, self._weights.options)
        params.n_ctx, params.n_batch, params.n_seq_max = cells, _BATCH, rows
        params.kv_unified = True  # all sequences in one store, so that they can share cells
        params.swa_full = True  # keep what has left a sliding window: a row may be set back
        _said.clear()
        context = lib.llama_init_from_model(self._weights.model, params)
        if not context:
            raise torch.OutOfMemoryError(f"llama.cpp has no context of {cells} tokens: {_why()}")
        old, self._context, self._cells, self._rows = self._context, context, cells, rows
        free, self._free = self._free, weakref.finalize(self, _free, lib, context, self._weights)
        if free is None:
            return
        size = lib.llama_state_get_size(old)
        state = (ctypes.c_uint8 * size)()
        size = lib.llama_state_get_data(old, state, size)
        free()
        if lib.llama_state_set_data(context, state, size) != size:
            raise PairError(f"llama.cpp cannot move its cache: {_why()}", hint="use fewer samples")

    def decode(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        positions: Sequence[int],
        wanted: Sequence[int],
    ) -> torch.Tensor:
        """Reads tokens of any sequences.

        Args:
            tokens: Token ids.
            rows: The sequence of each.
            positions: Its place there; each sequence must go on where it ends.
            wanted: Indices of tokens, rising, after which logits are wanted.

        Returns:
            float32 [len(wanted), ids of the file].

        Raises:
            PairError: If llama.cpp fails.
            torch.OutOfMemoryError: If there is no room, and no memory to make some.
        """
        lib, size = self._lib, self._weights.size
        if self._context is None:
            self._grow(self._cells, self._rows)
        out = torch.empty(len(wanted), size)
        found = 0
        for start in range(0, len(tokens), _BATCH):
            portion = slice(start, start + _BATCH)
            here = [i - start for i in wanted if start <= i < start + _BATCH]
            batch = self._batch.of(tokens[portion], rows[portion], positions[portion], here)
            _said.clear()
            while (code := lib.llama_decode(self._context, batch)) == 1:  # no room
                self._grow(2 * self._cells, self._rows)
            if code:
                raise PairError(
                    f"llama.cpp fails on {self._weights.path.name} with code {code}: {_why()}",
                    hint="a token id may be beyond its tables, or memory too small",
                )
            for i in here:
                address = lib.llama_get_logits_ith(self._context, i)
                ctypes.memmove(out[found].data_ptr(), address, 4 * size)
                found += 1
        return out

    def share(self, source: int, target: int) -> None:
        """Lets a sequence, empty so far, begin with all that another holds."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def cut(self, row: int, length: int) -> None:
        """Forgets what a sequence holds after its first tokens."""
        if self._context is not None:
            self._lib.llama_memory_seq_rm(self._memory, row, length, -1)

    @property
    def _memory(self) -> Any:
        return self._lib.llama_get_memory(self._context)


def _free(lib: Any, context: Any, _: Weights) -> None:
    """Frees a context; what is loaded must live as long, and does while this is to be called."""
    lib.llama_free(context)


class _Fed:
    """Memory for what is given to llama.cpp at a time."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self._token, self._pos, self._row = np.zeros((3, _BATCH), dtype=np.int32)
        self._one = np.ones(_BATCH, dtype=np.int32)
        self._wanted = np.zeros(_BATCH, dtype=np.int8)
        self._rows = self._row.ctypes.data + 4 * np.arange(_BATCH, dtype=np.uintp)

    def of(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        positions: Sequence[int],
        wanted: Sequence[int],
    ) -> Any:
        """Returns a batch; it stands until the next one is made."""
        n = len(tokens)
        self._token[:n], self._row[:n], self._pos[:n] = tokens, rows, positions
        self._wanted[:n] = 0
        self._wanted[list(wanted)] = 1
        batch = self._lib.llama_batch()
        batch.n_tokens = n
        for name, array in (
            ("token", self._token),
            ("pos", self._pos),
            ("n_seq_id", self._one),
            ("seq_id", self._rows),
            ("logits", self._wanted),
        ):
            kind = dict(self._lib.llama_batch._fields_)[name]
            setattr(batch, name, ctypes.cast(array.ctypes.data, kind))
        return batch


class LlamaCache:
    """Rows as sequences of one context; see `baco.engine.partner.RowCache`.

    Args:
        partner: The partner whose rows they are; both partners', where they share a file.
    """

    def __init__(self, partner: LlamaPartner) -> None:
        self.partner = partner
        self._sequences = Sequences(partner.model)
        self._numbers: list[int] = []  # the sequence of each row
        self._lengths: list[int] = []

    def add(self, count: int) -> None:
        """Appends empty rows."""
        self._numbers += self._unused(count)
        self._lengths += [0] * count

    def _unused(self, count: int) -> list[int]:
        used = set(self._numbers)
        return [i for i in range(len(used) + count) if i not in used][:count]

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into empty rows; equal prompts are computed once."""
        self._sequences.reserve(1 + max(self._numbers))
        same: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in zip(rows, prompts, strict=True):
            same.setdefault(tuple(prompt), []).append(row)
        first = [members[0] for members in same.values()]
        ends = np.cumsum([len(prompt) for prompt in same]) - 1
        logits = self._decode(first, list(same), ends.tolist())
        for row, *others in same.values():
            for other in others:
                self._sequences.share(self._numbers[row], self._numbers[other])
                self._lengths[other] = self._lengths[row]
        number = {prompt: i for i, prompt in enumerate(same)}
        return logits[[number[tuple(prompt)] for prompt in prompts]]

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Feeds the next tokens of every row in one pass."""
        n, q = tokens.shape
        fed = [row[:count] for row, count in zip(tokens.tolist(), counts.tolist(), strict=True)]
        logits = self._decode(range(n), fed, range(int(counts.sum())))
        out = torch.zeros(n, q, logits.shape[-1])
        out[torch.arange(q) < counts[:, None]] = logits
        return out

    def _decode(
        self, rows: Sequence[int], fed: Sequence[Sequence[int]], wanted: Sequence[int]
    ) -> torch.Tensor:
        """Feeds some rows: logits [len(wanted), vocabulary] after tokens, counted over all."""
        numbers: list[int] = []
        positions: list[int] = []
        for row, ids in zip(rows, fed, strict=True):
            numbers += [self._numbers[row]] * len(ids)
            positions += range(self._lengths[row], self._lengths[row] + len(ids))
        flat = [i for ids in fed for i in ids]
        logits = self._sequences.decode(flat, numbers, positions, wanted)
        for row, ids in zip(rows, fed, strict=True):
            self._lengths[row] += len(ids)
        return self.partner.over_all_ids(logits)

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets later tokens."""
        for row, length in enumerate(lengths.tolist()):
            if length < self._lengths[row]:
                self._sequences.cut(self._numbers[row], length)
                self._lengths[row] = length

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order; one that is named twice is shared."""
        for row in set(range(len(self._numbers))) - set(rows):
            self._sequences.cut(self._numbers[row], 0)
        old, lengths = self._numbers, [self._lengths[row] for row in rows]
        self._numbers = [old[row] for row in set(rows)]
        spare = iter(self._unused(len(rows) - len(self._numbers)))
        seen: set[int] = set()
        numbers = []
        for row in rows:
            numbers.append(next(spare) if row in seen else old[row])
            if row in seen and self._lengths[row]:
                self._sequences.reserve(1 + numbers[-1])
                self._sequences.share(old[row], numbers[-1])
            seen.add(row)
        self._numbers, self._lengths = numbers, lengths


def load(
    base: Any,
    aligned: Any = None,
    *,
    adapter: Any = None,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str = "main",
    base_prompt: BasePrompt = "plain",
    template: PlainTemplate | None = None,
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    **options: Any,
) -> Models:
    """Loads a pair of GGUF files into llama.cpp.

    Args:
        base: The base model's file.
        aligned: The aligned model's file; the same file twice is loaded once.
        adapter: Refused.
        name: What to call the pair.
        device: Refused but for ``auto``: llama.cpp takes what it was built for, see `options`.
        dtype: The same: weights stay as they are in the file.
        revision: The same: a file has none.
        base_prompt: As of `baco.Pair`.
        template: As of `baco.Pair`.
        load_in_8bit: Refused.
        load_in_4bit: Refused.
        **options: Parameters of llama.cpp's models and contexts that are numbers, such as
            ``n_gpu_layers`` and ``n_threads``.

    Raises:
        InputError: If an option is out of place.
        UnsupportedError: If an adapter is asked for.
        PairError: If a file cannot be loaded, or is of a wrong kind.
    """
    if adapter is not None or aligned is None:
        raise UnsupportedError(
            "the engine 'llamacpp' loads two GGUF files, and no adapter",
            hint="merge the adapter, convert the model to GGUF, and give it as the aligned side",
        )
    if (device, dtype, revision) != ("auto", "auto", "main") or load_in_8bit or load_in_4bit:
        raise InputError(
            "the engine 'llamacpp' takes GGUF files as they are: no device, dtype, revision or "
            "8-bit loading",
            hint="for a GPU: --engine-option n_gpu_layers=99; for fewer bits another file",
        )
    _check_options(options)
    files = [Weights(str(base), options)]
    files.append(
        files[0] if _file(str(aligned)) == files[0].path else Weights(str(aligned), options)
    )
    tokens = (files[0].tokens, files[1].tokens)
    tokenizers = [Tokenizer(each) for each in files]
    ends = files[0].ends | files[1].ends
    plain = plain_template(template, base_prompt)
    texts = [text_encoder(each, ends) for each in tokenizers]
    encoders = (
        chat_encoder(tokenizers[0], str(base))
        if base_prompt == "chat"
        else plain_encoder(texts[0], plain),
        chat_encoder(tokenizers[1], str(aligned)),
    )
    shared = shares_ids(*tokens, ends) and cuts_alike(*tokenizers)
    for weights in {id(each): each for each in files}.values():
        weights.read()
    if shared:
        both = vocabulary_over(max(tokens, key=len), ends)
        tables = (both, both)
    else:
        tables = (
            vocabulary_over(tokens[0], files[0].ends),
            vocabulary_over(tokens[1], files[1].ends),
        )
    sides = [
        Side(
            str(source),
            LlamaPartner(weights, vocabulary, side),
            encode,
            text,
            weights.tokens,
            weights.revision,
            plain.boundary if (side, base_prompt) == ("base", "plain") else "",
        )
        for source, weights, vocabulary, side, encode, text in zip(
            (base, aligned), files, tables, ("base", "aligned"), encoders, texts, strict=True
        )
    ]
    found = (sides[0], sides[1])
    if not shared:
        opening = plain.opening if base_prompt == "plain" else ""
        found = bridged(*found, (tokenizers[0], tokenizers[1]), opening)
    return Models(name or f"{base},{aligned}", found, base_prompt, template)


def _file(source: str) -> Path:
    """Returns where a GGUF file is, downloading it if it is on the Hub.

    Raises:
        PairError: If there is none, or it is something else.
    """
    if not is_gguf(source):
        if Path(source).expanduser().is_dir():
            check_source(source)  # it may hold one
        raise PairError(
            f"{source!r} is no GGUF file",
            hint="the engine 'llamacpp' takes GGUF files: BASE.gguf,ALIGNED.gguf",
        )
    path = local_file(source, MAIN)
    check_start(path)
    return path.resolve()


def _fields(params: Any) -> dict[str, Any]:
    """The parameters of llama.cpp that a user can set: numbers."""
    return {
        field: kind
        for field, kind, *_ in params._fields_
        if field not in _OWN
        and issubclass(kind, ctypes._SimpleCData)
        and kind._type_ in "?iIlLqQbBf"
    }


def _check_options(options: dict[str, Any]) -> None:
    lib = _llama()
    known = _fields(lib.llama_model_params) | _fields(lib.llama_context_params)
    for option, value in options.items():
        if option not in known:
            raise UnknownNameError("option of llama.cpp", option, known)
        if not isinstance(value, int | float):
            raise InputError(
                f"{option}={value!r} is not a number", hint="options of llama.cpp are numbers"
            )
        kind = known[option]
        if kind is ctypes.c_float:
            fits = abs(value) < 1e38
        else:  # ctypes cuts off what is too large
            fits = not isinstance(value, float) and kind(value).value == value
        if not fits:
            whole = f"a whole number that fits into {8 * ctypes.sizeof(kind)} bits"
            takes = {ctypes.c_float: "a finite number", ctypes.c_bool: "true or false"}
            raise InputError(
                f"{option}={clipped(repr(value))} is not what llama.cpp takes there",
                hint=f"give {takes.get(kind, whole)}",
            )


def _with(params: Any, options: dict[str, Any]) -> Any:
    """Sets parameters by name; those of another structure are left alone."""
    for option, value in options.items():
        if option in _fields(params):
            setattr(params, option, value)
    return params


BACKEND = Backend(load, options=True)
"""Loads a pair of GGUF files: ``baco.load(..., engine="llamacpp")``."""
