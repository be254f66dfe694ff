"""The real openai client for JavaScript against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const ask = { model: "toy", messages: [{ role: "user", content: "Name a city." }],
  n: 2, seed: 3, max_tokens: 8, diversity: 0.5 };
const whole = await client.chat.completions.create(ask);
const texts = ["", ""];
let usage = null;
const stream = await client.chat.completions.create(
  { ...ask, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? "";
}
const same = whole.choices.every((c, i) => c.message.content === texts[i]);
let refused = null;
try { await client.chat.completions.create({ ...ask, temperature: 9 }); }
catch (error) { refused = [error.constructor.name, error.status, error.param]; }
const names = [];
for await (const model of client.models.list()) names.push(model.id);
console.log(JSON.stringify({ same, usage, whole: whole.usage, refused, names,
  share: whole.baco.base_share }));
"""


def modules() -> Path | None:
    """The folder that holds the npm package, named by BACO_NODE_MODULES or npm's global one."""
    named = os.environ.get("BACO_NODE_MODULES")
    folders = [Path(named)] if named else []
    if not folders and (npm := shutil.which("npm")):
        out = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False)
        folders.append(Path(out.stdout.strip()))
    return next((f for f in folders if (f / "openai").is_dir()), None)


def test_npm_client(url: str, tmp_path: Path) -> None:
    import json

    node, packages = shutil.which("node"), modules()
    if node is None:
        pytest.skip("needs node")
    if packages is None:
        pytest.skip("needs the npm package openai: npm install -g openai, or BACO_NODE_MODULES")
    (tmp_path / "node_modules").symlink_to(packages)
    script = tmp_path / "client.mjs"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [node, str(script), url], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["same"]
    assert said["usage"] == said["whole"]
    assert said["refused"] == ["BadRequestError", 400, "temperature"]
    assert said["names"][0] == "toy"
    assert 0 <= said["share"] <= 1
