"""Clients that people use, as docs/clients.md sets them up; `make test-clients` installs them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ASK = "Name a city in Italy for my quiz."
MODULES = Path(os.environ.get("BACO_CLIENT_MODULES", "none"))


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test, before a server is started for it."""
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}: make test-clients")


@needs("litellm")
def test_litellm(url: str) -> None:
    import litellm

    ask = {
        "model": "openai/tiny", "api_base": f"{url}/v1", "api_key": "none",
        "messages": [{"role": "user", "content": ASK}], "n": 3, "seed": 1,
        "extra_body": {"diversity": 0.5},
    }  # fmt: skip
    whole = litellm.completion(**ask)
    texts = [choice.message.content for choice in whole.choices]
    assert len(texts) == 3
    assert all(texts)
    streamed = ["", "", ""]
    for chunk in litellm.completion(**ask, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert sorted(streamed) == sorted(texts)


@needs("langchain_openai")
def test_langchain(url: str) -> None:
    import langchain_openai as langchain
    from langchain_core.messages import HumanMessage

    chat = langchain.ChatOpenAI(
        model="tiny:diverse", base_url=f"{url}/v1", api_key="none", n=3, seed=1
    )
    result = chat.generate([[HumanMessage(ASK)]])
    assert len([g.text for g in result.generations[0] if g.text]) == 3
    one = langchain.ChatOpenAI(
        model="tiny", base_url=f"{url}/v1", api_key="none", extra_body={"diversity": 0.5}
    )
    assert one.invoke([("system", "Be brief."), ("user", ASK)]).content
    assert "".join(part.content for part in one.stream(ASK))


@needs("llm")
def test_llm(url: str, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: baco\n  model_name: tiny:diverse\n  api_base: {url}/v1\n"
        f"- model_id: baco-raw\n  model_name: tiny\n  api_base: {url}/v1\n  completion: true\n"
    )
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}

    def said(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            capture_output=True, text=True, timeout=300, env=environment, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    assert said("-m", "baco", ASK)
    assert said("-c", "Another one.")
    assert said("-m", "baco", "--no-stream", "-s", "Be brief.", "-o", "temperature", "0.8", ASK)
    assert said("-m", "baco-raw", "One city in Italy is")


@needs("pydantic_ai")
def test_pydantic_ai(url: str) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    agent = Agent(
        OpenAIChatModel("tiny", provider=provider),
        system_prompt=("Be brief.", "Be kind."),
        model_settings={"seed": 1, "extra_body": {"diversity": 0.5}},
    )
    first = agent.run_sync(ASK)
    assert first.output
    assert agent.run_sync("Another one.", message_history=first.new_messages()).output

    async def streamed() -> str:
        async with agent.run_stream(ASK) as result:
            return await result.get_output()

    assert asyncio.run(streamed())


@needs("inspect_ai")
def test_inspect_ai(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.scorer import includes

    monkeypatch.chdir(tmp_path)
    model = get_model("openai-api/baco/tiny", base_url=f"{url}/v1", api_key="none")
    task = Task(dataset=[Sample(input=ASK, target="e")], scorer=includes(), epochs=2)
    (log,) = eval(
        task, model=model, display="none", log_dir=str(tmp_path), max_tokens=60, seed=1,
        extra_body={"diversity": 0.5},
    )  # fmt: skip
    assert log.status == "success", log.error
    assert [sample.output.completion for sample in log.samples]


TASK = """
task: quiz
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_gen_toks: 40, do_sample: false, until: ["\\n\\n"]}}
metric_list: [{{metric: exact_match}}]
"""


@needs("lm_eval")
@pytest.mark.parametrize("kind", ["local-chat-completions", "local-completions"])
def test_lm_evaluation_harness(url: str, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "quiz.jsonl"
    question = ASK if kind == "local-chat-completions" else f"Question: {ASK}\nAnswer:"
    data.write_text(json.dumps({"question": question, "answer": "Rome"}) + "\n")
    (tmp_path / "quiz.yaml").write_text(TASK.format(data=data))
    chat = kind == "local-chat-completions"
    address = f"{url}/v1/{'chat/' if chat else ''}completions"
    arguments = f"model=tiny,base_url={address},num_concurrent=1,max_retries=1"
    run = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args",
         f"{arguments},tokenizer_backend=None", "--include_path", str(tmp_path),
         "--tasks", "quiz", "--output_path", str(tmp_path / "out"), "--log_samples",
         *(["--apply_chat_template"] if chat else [])],
        capture_output=True, text=True, timeout=540, check=False,
        env=os.environ | {"OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1",
                          "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    assert json.loads(samples.read_text().splitlines()[0])["resps"][0][0]


CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: 0
doc_to_choice: "{{{{choices}}}}"
target_delimiter: " "
metric_list: [{{metric: acc}}]
"""

QUESTIONS = [
    ("Name a city in Italy for my quiz.", ["One city in Italy is Rome.", "A car is red."]),
    ("Suggest a summer trip.", ["Go to the sea.", "Bake a cake with apples.", "No"]),
    ("What shall I cook?", ["You could cook a soup.", "zebra zebra zebra"]),
]


@needs("lm_eval")
@needs("torch")
def test_log_likelihoods_are_those_of_the_harness_itself(url: str, tmp_path: Path) -> None:
    """Multiple choice by the server, and by the harness's own `hf` backend on the same weights."""
    weights = Path(__file__).parents[2] / "src/baco/tiny/weights"
    data = tmp_path / "choices.jsonl"
    data.write_text("".join(json.dumps({"question": q, "choices": c}) + "\n" for q, c in QUESTIONS))
    (tmp_path / "choices.yaml").write_text(CHOICES.format(data=data))

    def likelihoods(kind: str, arguments: str) -> list[tuple[float, bool]]:
        out = tmp_path / kind
        run = subprocess.run(
            [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args", arguments,
             "--include_path", str(tmp_path), "--tasks", "choices", "--output_path", str(out),
             "--log_samples"],
            capture_output=True, text=True, timeout=540, check=False,
            env=os.environ | {"OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1",
                              "HF_HOME": str(tmp_path)},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-3000:]
        (file,) = out.rglob("samples_*.jsonl")
        samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda s: s["doc_id"])
        return [(float(r[0][0]), str(r[0][1]) == "True") for s in samples for r in s["resps"]]

    served = likelihoods(
        "local-completions",
        f"model=tiny,base_url={url}/v1/completions,tokenizer={weights / 'aligned'},"
        "tokenizer_backend=huggingface,max_retries=1",
    )
    own = likelihoods("hf", f"pretrained={weights / 'aligned'},dtype=float32")
    assert len(served) == sum(len(choices) for _, choices in QUESTIONS)
    assert [p for p, _ in served] == pytest.approx([p for p, _ in own], abs=1e-3)
    assert [greedy for _, greedy in served] == [greedy for _, greedy in own]


SCRIPT = """
import { generateText, streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const baco = createOpenAICompatible({ name: "baco", baseURL: process.argv[2] + "/v1" });
const ask = { model: baco("tiny:diverse"), prompt: process.argv[3], seed: 1, maxOutputTokens: 40,
  providerOptions: { baco: { top_k: 50 } } };
const { text } = await generateText(ask);
let streamed = "";
for await (const part of streamText(ask).textStream) streamed += part;
console.log(JSON.stringify({ text, streamed }));
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "ai").is_dir(),
    reason="needs node and the npm package ai: make test-clients",
)
def test_ai_sdk(url: str, tmp_path: Path) -> None:
    node = str(shutil.which("node"))
    (tmp_path / "node_modules").symlink_to(MODULES.resolve())
    script = tmp_path / "client.mjs"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [node, str(script), url, ASK], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["text"]
    assert said["text"] == said["streamed"]
