"""Models that read texts: encoders, classifiers of pairs, reward models, likelihoods.

Rows are padded by hand and masked, so that neither padding nor the size of a batch changes a value
beyond rounding.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, groupby
from pathlib import Path
from typing import Any

import numpy as np

from baco.errors import InputError, PairError, missing_extra
from baco.metrics.models import TOKENIZERS, FoundModel, find_model
from baco.metrics.passes import ScoringOptions
from baco.metrics.spec import Item
from baco.models import checkpoints
from baco.models.checkpoints import MAIN, Loading, quiet
from baco.models.gguf import check_whole
from baco.models.hf import cache_argument, context_window, keeps_keys
from baco.models.load_lock import LOADING
from baco.models.sides import ChatTemplate
from baco.prompts import Conversation, Message

PAIR_LIMIT = 512
"""Tokens of a pair; the longer side is cut first."""

SIDE_LIMIT = 128
"""Tokens of each side for NoveltyBench's classifier."""

_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


def device_of(options: ScoringOptions) -> str:
    """The device to run on: the one asked for, or CUDA, or MPS, or the CPU."""
    import torch

    if options.device != "auto":
        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"cannot use the device {options.device!r}: {error}") from error
        return options.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def dtype_of(options: ScoringOptions, large: bool) -> str:
    """The dtype to load a model in; ``large`` ones are in bfloat16 on a GPU unless asked for."""
    if options.dtype != "auto":
        return options.dtype
    return "bfloat16" if large and device_of(options).startswith("cuda") else "float32"


def load_tokenizer(model: FoundModel) -> Any:
    """Loads a model's tokenizer, from where it is known to be if the model has none."""
    from transformers import AutoTokenizer

    if model.name in TOKENIZERS and not model.has("tokenizer_config.json"):
        model = find_model(TOKENIZERS[model.name], offline=model.local)
    if model.file:
        return checkpoints.load_tokenizer(str(Path(model.location, model.file)), MAIN, Loading())
    try:
        return AutoTokenizer.from_pretrained(model.location, **model.pinned)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the tokenizer of {model.name}: {_first_line(error)}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' bars and load reports: what matters in them is checked and raised."""
    import transformers.utils.logging

    logging: Any = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet(local=True):
            yield
    finally:
        logging.set_verbosity(level)


def _load(auto: str, model: FoundModel, options: ScoringOptions, large: bool) -> Any:
    """Loads a model; one that lacks weights of the part asked for is refused."""
    import torch
    import transformers

    unpacked = {}
    if model.file:
        config: Any = transformers.GgufConfig
        unpacked["quantization_config"] = config(dequantize=True)
    try:
        with LOADING, _quiet():
            made, report = getattr(transformers, auto).from_pretrained(
                model.location,
                dtype=getattr(torch, dtype_of(options, large)),
                output_loading_info=True,
                **model.pinned,
                **unpacked,
            )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the model {model.name}: {_first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"the model {model.name} is of another kind than {auto}: it lacks {missing[0]}",
            hint="name a model that was trained for this metric",
        )
    if model.file:
        check_whole(Path(model.location, model.file), made)
    return made.to(device_of(options)).eval()


def load_generator(model: FoundModel, options: ScoringOptions) -> Any:
    """Loads a causal language model that writes by its own ``generate``, with no settings of it."""
    import transformers

    made = _load("AutoModelForCausalLM", model, options, large=True)
    settings: Any = transformers.GenerationConfig
    made.generation_config = settings()
    return made


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _pad(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Any, Any]:
    """Pads ids on the right; returns ids and attention mask."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def position_limit(config: Any, tokenizer: Any) -> int:
    """Longest input in tokens that a model and its tokenizer take."""
    limit = int(min(getattr(tokenizer, "model_max_length", 1 << 30), 1 << 30))
    places = getattr(config, "max_position_embeddings", None)
    if places and places > 0:
        if config.model_type in _OFFSET_POSITIONS:
            places -= (config.pad_token_id or 0) + 1
        limit = min(limit, places)
    return limit


class TextEncoder:
    """Texts to vectors.

    Args:
        model: A sentence-transformers model, or with ``pooler`` any encoder with a pooler head.
        options: How to run.
        pooler: Whether the vector is the pooler's output (SimCSE) and not what
            sentence-transformers makes of it.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions, *, pooler: bool) -> None:
        self._size = options.batch_size
        self._pooler = pooler
        if pooler:
            self._tokenizer = load_tokenizer(model)
            self._model = _load("AutoModel", model, options, large=False)
            self.limit = min(PAIR_LIMIT, position_limit(self._model.config, self._tokenizer))
            return
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise missing_extra("sentence_transformers", "metrics") from error
        import torch

        with LOADING, _quiet():
            self._model = SentenceTransformer(
                model.location,
                device=device_of(options),
                local_files_only=model.local,
                model_kwargs={"dtype": getattr(torch, dtype_of(options, large=False))},
                revision=None if model.local else model.revision,
            ).eval()
        self.limit = int(self._model.max_seq_length or PAIR_LIMIT)

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields one vector for each text."""
        import torch

        for batch in _batches([text for (text,) in items], self._size):
            with torch.inference_mode():
                yield from self._encode(batch).astype(np.float64)

    def _encode(self, texts: Sequence[str]) -> Any:
        if not self._pooler:
            found = self._model.encode(
                list(texts),
                batch_size=self._size,
                convert_to_tensor=True,
                show_progress_bar=False,
            )
            return found.float().cpu().numpy()
        ids = self._tokenizer(list(texts), truncation=True, max_length=self.limit)["input_ids"]
        rows, mask = _pad(ids, self._tokenizer.pad_token_id, str(self._model.device))
        found = self._model(input_ids=rows, attention_mask=mask).pooler_output
        return found.float().cpu().numpy()


class PairClassifier:
    """Pairs of texts to probabilities of labels.

    Args:
        model: A sequence classification model (a cross-encoder).
        options: How to run.
        sides: Whether each side is cut on its own at `SIDE_LIMIT` tokens (NoveltyBench), and not
            the longer one until both fit into `PAIR_LIMIT`.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions, *, sides: bool = False) -> None:
        self.name = model.name
        self._size = options.batch_size
        self._sides = sides
        self._tokenizer = load_tokenizer(model)
        self._model = _load("AutoModelForSequenceClassification", model, options, large=False)
        self._limit = min(PAIR_LIMIT, position_limit(self._model.config, self._tokenizer))
        if sides and self._model.config.num_labels != 2:
            raise InputError(
                f"{model.name} is no classifier of equivalence: it has "
                f"{self._model.config.num_labels} labels, not 2 (different, same)"
            )

    def label(self, wanted: str) -> int:
        """Index of a label, as the model's own configuration names it.

        Args:
            wanted: Beginning of the label, such as ``entail``.

        Returns:
            The index.

        Raises:
            InputError: If no label, or more than one, is called so.
        """
        labels = {int(i): str(name) for i, name in self._model.config.id2label.items()}
        found = [i for i, name in labels.items() if wanted in name.lower()]
        if len(found) != 1:
            raise InputError(
                f"the model {self.name} has no single label {wanted!r}: it has {labels}",
                hint="its config.json must name its labels in id2label",
            )
        return found[0]

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields the probabilities of all labels for each pair (premise, hypothesis)."""
        import torch

        takes_types = getattr(self._model.config, "type_vocab_size", 0) > 1
        for batch in _batches(items, self._size):
            rows = [self._ids(a, b) for a, b in batch]
            device = str(self._model.device)
            ids, mask = _pad([r[0] for r in rows], self._tokenizer.pad_token_id, device)
            inputs = {"input_ids": ids, "attention_mask": mask}
            if takes_types:
                inputs["token_type_ids"] = _pad([r[1] for r in rows], 0, device)[0]
            with torch.inference_mode():
                logits = self._model(**inputs).logits
            yield from torch.softmax(logits.double(), dim=-1).cpu().numpy()

    def _ids(self, a: str, b: str) -> tuple[list[int], list[int]]:
        """Token ids and the side each belongs to."""
        if not self._sides:
            made = self._tokenizer(
                a,
                b,
                truncation="longest_first",
                max_length=self._limit,
                return_token_type_ids=True,
            )
            return list(made["input_ids"]), list(made["token_type_ids"])
        sep = self._tokenizer.sep_token_id
        ids, types = [self._tokenizer.cls_token_id], [0]
        for side, text in enumerate((a, b)):
            made = self._tokenizer(
                text, add_special_tokens=False, truncation=True, max_length=SIDE_LIMIT
            )["input_ids"]
            ids += [*made, sep]
            types += [side] * (len(made) + 1)
        return ids, types


def chat_ids(tokenizer: Any, name: str, messages: list[dict[str, str]], *, ask: bool) -> list[int]:
    """Token ids of a conversation in the model's own chat template.

    Args:
        tokenizer: The model's tokenizer.
        name: The model's name, for the message.
        messages: The conversation.
        ask: Whether the assistant's turn is opened at the end.

    Returns:
        The ids.

    Raises:
        InputError: If the model has no chat template, or one that does not show the conversation.
    """
    return _template(tokenizer, name).ids(_talk(messages), "ask" if ask else "closed")


def _template(tokenizer: Any, name: str) -> ChatTemplate:
    try:
        return ChatTemplate(tokenizer, name)
    except PairError as error:
        raise InputError(error.message, hint="an aligned (chat) model is needed") from error


def _talk(messages: Sequence[Mapping[str, str]]) -> Conversation:
    return tuple(Message(m["role"], m["content"]) for m in messages)


class RewardModel:
    """(conversation, output) to a raw score: the only logit of a sequence classification model.

    Args:
        model: A reward model with a chat template.
        options: How to run.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions) -> None:
        self._name = model.name
        self._size = options.batch_size
        self._tokenizer = load_tokenizer(model)
        self._model = _load("AutoModelForSequenceClassification", model, options, large=True)
        if self._model.config.num_labels != 1:
            raise InputError(
                f"{model.name} is no reward model: it has {self._model.config.num_labels} outputs"
            )
        self._limit = position_limit(self._model.config, self._tokenizer)

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields one raw score for each item; NaN where it does not fit the model."""
        import torch

        for batch in _batches(items, self._size):
            rows = [self._ids(*item) for item in batch]
            fits = [row for row in rows if len(row) <= self._limit]
            scores: Iterator[float] = iter(())
            if fits:
                unused = _unused_id(fits)
                self._model.config.pad_token_id = unused
                ids, mask = _pad(fits, unused, str(self._model.device))
                with torch.inference_mode():
                    logits = self._model(input_ids=ids, attention_mask=mask).logits
                scores = iter(logits[:, 0].double().cpu().tolist())
            for row in rows:
                yield [next(scores) if len(row) <= self._limit else math.nan]

    def _ids(self, conversation: str, output: str) -> list[int]:
        talk = [*json.loads(conversation), {"role": "assistant", "content": output}]
        return chat_ids(self._tokenizer, self._name, talk, ask=False)


def _unused_id(rows: Sequence[Sequence[int]]) -> int:
    """An id that no row holds: the model looks for the last token that is not padding."""
    used = {token for row in rows for token in row}
    return next(i for i in range(len(used) + 1) if i not in used)


class Likelihood:
    """(conversation, output, ending) to the sum of the tokens' log-probabilities and their number.

    Args:
        model: The aligned model, with a chat template.
        options: How to run.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions) -> None:
        self._name = model.name
        self._size = options.batch_size
        self._tokenizer = load_tokenizer(model)
        self._model = _load("AutoModelForCausalLM", model, options, large=True)
        self._limit = position_limit(self._model.config, self._tokenizer)
        self._end = end_of_turn(self._tokenizer, model.name)
        self._shared = (
            context_window(self._model.config.get_text_config()) if keeps_keys(self._model) else 0
        )
        self._cache = cache_argument(self._model)

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields (sum of log-probabilities in nats, number of tokens).

        The end-of-turn token is scored too where the third part of an item is ``end``. NaN and 0
        where there is nothing to score or it does not fit the model. Items of one
        conversation are best given one after the other: it is read once for them.
        """
        import torch

        rows = (self._ids(*item) for item in items)
        for prompt, same in groupby(rows, key=lambda row: row[0]):
            for targets in _batches([target for _, target in same], self._size):
                fits = [t and len(prompt) + len(t) <= self._limit for t in targets]
                with torch.inference_mode():
                    steps = self._steps(prompt, list(compress(targets, fits)))
                    sums = iter([self._sum(*each) for each in steps])
                for target, good in zip(targets, fits, strict=True):
                    yield [next(sums), len(target)] if good else [math.nan, 0]

    def _steps(
        self, prompt: list[int], targets: Sequence[list[int]]
    ) -> Iterator[tuple[Any, list[int]]]:
        """Yields the logits before each token of a target [tokens, vocabulary], and the target."""
        import torch
        import transformers

        if not targets:
            return
        known: dict[str, Any] = {"use_cache": False}
        unread = prompt
        device = str(self._model.device)
        if 1 < len(prompt) <= self._shared - max(map(len, targets)):
            cache = transformers.DynamicCache(config=self._model.config)
            known = {self._cache: cache}
            read = torch.tensor([prompt[:-1]], device=device)
            self._model(input_ids=read, **known)
            cache.batch_repeat_interleave(len(targets))
            unread = prompt[-1:]
        ids, mask = _pad([[*unread, *target[:-1]] for target in targets], 0, device)
        mask = torch.nn.functional.pad(mask, (len(prompt) - len(unread), 0), value=1)
        logits = self._model(input_ids=ids, attention_mask=mask, **known).logits
        for row, target in zip(logits[:, len(unread) - 1 :], targets, strict=True):
            yield row[: len(target)], target

    def _sum(self, logits: Any, target: Sequence[int]) -> float:
        import torch

        steps = torch.log_softmax(logits.float(), dim=-1)
        picked = steps[torch.arange(len(target)), torch.tensor(target, device=steps.device)]
        return float(picked.double().sum())

    def _ids(self, conversation: str, output: str, ending: str) -> tuple[list[int], list[int]]:
        start = chat_ids(self._tokenizer, self._name, json.loads(conversation), ask=True)
        made = self._tokenizer(output, add_special_tokens=False, verbose=False)["input_ids"]
        return start, [*made, *([self._end] if ending == "end" else [])]


class Entropy(Likelihood):
    """As `Likelihood`, but the sum of the entropies (nats) of the distributions before each token.

    Args:
        model: The model, with a chat template.
        options: How to run.
    """

    def _sum(self, logits: Any, target: Sequence[int]) -> float:
        import torch

        steps = torch.log_softmax(logits.double(), dim=-1)
        return float(-torch.xlogy(steps.exp(), steps.exp()).sum())


class Surprise:
    """(question, answers in order) to each answer's surprise (bits) given all that comes before.

    The model reads the answers as turns of plain text (`baco.prompts.PlainTemplate`); each piece is
    tokenised by itself.

    Args:
        model: A base model.
        options: How to run.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions) -> None:
        self._tokenizer = load_tokenizer(model)
        self._model = _load("AutoModelForCausalLM", model, options, large=True)
        self._limit = position_limit(self._model.config, self._tokenizer)

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields the bits of the answers of each item; NaN where it does not fit the model."""
        import torch

        for question, *answers in items:
            first = self._tokenizer.bos_token_id
            ids: list[int] = [] if first is None else [first]
            spans: list[tuple[int, int]] = []
            for answer in answers:
                gap = "\n\n" if spans else ""
                ids += self._encode(f"{gap}Question: {question}\nAnswer:")
                said = self._encode(f" {answer}")
                spans.append((len(ids), len(ids) + len(said)))
                ids += said
            if len(ids) > self._limit or any(start == 0 for start, _ in spans):
                yield [math.nan] * len(answers)
                continue
            row = torch.tensor([ids], device=self._model.device)
            with torch.inference_mode():
                logits = self._model(input_ids=row, use_cache=False).logits[0, :-1]
                steps = torch.log_softmax(logits.double(), dim=-1)
                picked = steps.gather(1, row[0, 1:, None])[:, 0] / -math.log(2)
            yield [float(picked[start - 1 : end - 1].sum()) for start, end in spans]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def end_of_turn(tokenizer: Any, name: str) -> int:
    """Id of the token that ends the assistant's turn in the model's chat template.

    Args:
        tokenizer: The model's tokenizer.
        name: The model's name, for the message.

    Returns:
        The first special token after the assistant's words, or else the end-of-text token.
    """
    words = "BaCo"
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": words}]
    text = _template(tokenizer, name).write(_talk(talk), "closed")
    after = text[text.rindex(words) + len(words) :]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in tokenizer(after, add_special_tokens=False)["input_ids"]:
        if token in special:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise InputError(f"the model {name} has no end-of-turn token")
    return int(tokenizer.eos_token_id)
