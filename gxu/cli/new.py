"""`python -m gxu new NAME`: writes the skeleton of a vendor's package for a device of its own."""

from __future__ import annotations

import argparse
import keyword
import re
from pathlib import Path

from gxu.cli.errors import UsageError

HELP = "write a package for a device of your own, which builds and passes its tests on the host engine"

TEMPLATES = Path(__file__).resolve().parent.parent / "templates/vendor"

#: Runtimes that come with gxu, other packages for PyTorch (torch_xla), and backends of Triton's own.
RESERVED = frozenset("torch triton gxu host cuda cpu xla nvidia amd".split())

#: `triton_backend` of gxuDeviceProperties holds so many characters.
LONGEST_NAME = 31


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the device's name under PyTorch: lower-case letters and '_'")
    parser.add_argument("--directory", type=Path, metavar="D", help="the new folder (default: torch-NAME)")


def run(args: argparse.Namespace) -> int:
    check_name(args.name)
    names = {
        "name": args.name,
        "distribution": f"torch-{args.name.replace('_', '-')}",
        "package": f"torch_{args.name}",
        "class_name": "".join(part.capitalize() for part in args.name.split("_")),
        "library_target": f"gxu_runtime_{args.name}",
        "library": f"libgxu_runtime_{args.name}",
    }
    folder = args.directory or Path(names["distribution"])
    if folder.exists():
        raise UsageError(f"{folder} exists already: name another folder with --directory, or remove it")
    try:
        files = write(folder, names)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    print(f"{folder}: {len(files)} files. Next:")
    print(f"  cd {folder}")
    print("  pip install --no-build-isolation -e .")
    print("  python -m pytest")
    return 0


def check_name(name: str) -> None:
    """UsageError unless PyTorch can have a device of that name, and Python a package."""
    if not re.fullmatch("[a-z]+(_[a-z]+)*", name):
        raise UsageError(f"the name is {name!r}: PyTorch takes lower-case letters, with '_' between them")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"the name is {name!r}, {len(name)} letters: choose one of at most {LONGEST_NAME}")
    if name in RESERVED or keyword.iskeyword(name) or is_taken_in_torch(name):
        raise UsageError(f"the name is {name!r}, which PyTorch or Python uses already: choose one of your own")


def is_taken_in_torch(name: str) -> bool:
    """Whether torch.NAME, x.NAME(), x.is_NAME or the device NAME is something else already."""
    import torch

    if name == torch._C._get_privateuse1_backend_name():
        return False  # gxu has put it there
    owners = (torch, torch.Tensor, torch.nn.Module, torch.UntypedStorage)
    if any(hasattr(owner, name) or hasattr(owner, f"is_{name}") for owner in owners):
        return True
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def write(folder: Path, names: dict[str, str]) -> list[Path]:
    """Writes the files of the skeleton into the new `folder`, and returns them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    renamed = {"package": names["package"], "library.cpp": f"{names['library_target']}.cpp", "gitignore": ".gitignore"}
    written = []
    for template in sorted(TEMPLATES.rglob("*.j2")):
        relative = template.relative_to(TEMPLATES)
        parts = [renamed.get(part, part) for part in relative.with_suffix("").parts]
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(environment.get_template(relative.as_posix()).render(names))
        written.append(target)
    return written
