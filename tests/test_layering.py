"""Holds imports to the layers, and pure modules to purity; names the very line that breaks a rule.

Two rules. *Direction*: a layer imports only what `FORBIDDEN` leaves it. *Purity*: what decides what the data
is reads no disk, socket, clock or randomness; such modules import only names on `PURE_IMPORTS` and other pure
modules. That is a list of what is allowed, so that a forgotten library is refused and not let through.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The first match decides. Everything in crdtmed that is not named here is the shared core.
LAYERS = (
    ("cli", re.compile(r"crdtmed\.(cli\w*|__main__)(\.|$)")),
    ("ward", re.compile(r"crdtmed\.ward(\.|$)")),
    ("clock", re.compile(r"crdtmed\.exercise(\.|$)")),
    ("device", re.compile(r"crdtmed\.device(\.|$)")),
    ("core", re.compile(r"crdtmed(\.|$)")),
    ("relay", re.compile(r"relay(\.|$)")),
)
# Layer -> the layers that it must not import.
FORBIDDEN: Mapping[str, tuple[str, ...]] = {
    "core": ("device", "cli", "relay", "ward", "clock"),
    "clock": ("device", "cli", "relay", "ward"),
    "device": ("cli", "relay", "ward"),
    "relay": ("cli", "device", "ward"),
    "cli": ("relay", "ward"),
    "ward": ("relay", "cli"),
}

# Outside the core, these decide too: a pure module may import what stands here, and what stands here is pure.
PURE_SHELL_PARTS = re.compile(r"crdtmed\.device\.session\w*(\.|$)|relay\.session\w*(\.|$)|relay\.admission(\.|$)")

STDLIB = """
    __future__ abc base64 binascii bisect collections copy dataclasses datetime decimal enum fractions
    functools hashlib heapq hmac itertools json math numbers operator re string struct textwrap types typing
    unicodedata zlib
"""
PURE_IMPORTS = frozenset({*STDLIB.split(), "msgspec", "pycrdt"})
# Module -> what it alone may import besides. Making keys is randomness, so that has no place here either.
PURE_EXTRAS: Mapping[str, frozenset[str]] = {
    "crdtmed.gs1": frozenset({"biip"}),  # its table of application identifiers; its own dates read the clock
    # A function of its bytes; a thread has a compressor of its own, which remembers nothing.
    "crdtmed.compression": frozenset({"zstandard", "threading"}),
    "crdtmed.keys": frozenset({"cryptography"}),
    "crdtmed.sealing": frozenset({"cryptography", "argon2"}),  # given salt and nonce, both are functions
}

IMPURE_BUILTINS = frozenset({"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"})
CLOCK_READERS = frozenset({"now", "utcnow", "today"})
KEY_MAKERS = frozenset({"generate", "generate_private_key", "generate_key", "generate_parameters"})


@dataclass(frozen=True)
class Breach:
    """One line that breaks a rule."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def layer_of(module: str) -> str | None:
    """The layer of a dotted name, or None for a name outside the project."""
    return next((layer for layer, pattern in LAYERS if pattern.match(module)), None)


def is_pure(module: str) -> bool:
    """Whether the module must be, and may be relied on to be, free of I/O, clock and randomness."""
    return layer_of(module) == "core" or PURE_SHELL_PARTS.match(module) is not None


def imported(node: ast.stmt, package: str, modules: frozenset[str]) -> Iterator[str]:
    """The full names that an import statement takes in; `from package import module` names that module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in modules or base in ("crdtmed", "relay") else base


def import_breach(module: str, target: str) -> str | None:
    """Why `module` must not import `target`, or None if it may."""
    own, other = layer_of(module), layer_of(target)
    if own is not None and other is not None and other in FORBIDDEN[own]:
        return f"{own} must not import {other}: {target}"
    if not is_pure(module):
        return None
    if other is not None:
        return None if is_pure(target) else f"a pure module must not import {target}, which is not pure"
    top = target.split(".")[0]
    if top in PURE_IMPORTS or top in PURE_EXTRAS.get(module, frozenset()):
        return None
    return (
        f"a pure module must not import {target}; take time, ids, keys and random bytes as arguments, "
        f"or, if {top} has no I/O, clock or randomness in it, add it to PURE_IMPORTS"
    )


def bound_names(tree: ast.Module) -> dict[str, str]:
    """Every name that the module binds -> what it was imported as, or '' if it is the module's own."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.setdefault(node.name, "")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, "")
    return names


def impurity(node: ast.AST, names: Mapping[str, str]) -> str | None:
    """Why an expression of a pure module reads the clock, randomness or the world, or None if it does not."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in IMPURE_BUILTINS and node.id not in names:
            return f"a pure module must not use {node.id}"
        if names.get(node.id) in KEY_MAKERS:
            return f"making keys needs randomness: {names[node.id]}"
    if isinstance(node, ast.Attribute):
        owner = node.value
        last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
        if node.attr in CLOCK_READERS and (names.get(last) or last) in ("datetime", "date"):
            return f"a pure module must not read the clock: {ast.unparse(node)}"
        if node.attr in KEY_MAKERS:
            return f"making keys needs randomness: {ast.unparse(node)}"
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if (names.get(name) or name) == "Doc" and "client_id" not in {word.arg for word in node.keywords}:
            return "Doc() without client_id draws one at random; take it as an argument"
    return None


def breaches(file: str, module: str, source: str, modules: frozenset[str]) -> list[Breach]:
    """Every line of one module that breaks a rule; `modules` are the names of all modules of the project."""
    tree = ast.parse(source, file)
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    found = [
        Breach(file, node.lineno, what)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in imported(node, package, modules)
        if (what := import_breach(module, target)) is not None
    ]
    if is_pure(module):
        names = bound_names(tree)
        found += [
            Breach(file, node.lineno, what)
            for node in ast.walk(tree)
            if isinstance(node, ast.expr) and (what := impurity(node, names)) is not None
        ]
    return sorted(found, key=lambda breach: breach.line)


def project_modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of crdtmed and relay."""
    modules = {}
    for path in sorted([*ROOT.glob("crdtmed/**/*.py"), *ROOT.glob("relay/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def test_the_project_keeps_its_layers() -> None:
    modules = project_modules()
    names = frozenset(modules)
    assert {"crdtmed", "relay"} <= names
    found = [
        str(breach)
        for module, path in modules.items()
        for breach in breaches(str(path.relative_to(ROOT)), module, path.read_text(encoding="utf-8"), names)
    ]
    assert not found, "\n".join(["these lines break a rule of tests/test_layering.py:", *found])


MADE_UP = """
    crdtmed crdtmed.clock crdtmed.keys crdtmed.cli crdtmed.device crdtmed.device.link crdtmed.device.session
    crdtmed.policies crdtmed.policies.lww_diff relay relay.app relay.session relay.admission
    relay.admission.stock
"""
MODULES = frozenset(MADE_UP.split())


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("crdtmed.clock", "from crdtmed.device import link", "core must not import device"),
        ("crdtmed.clock", "from crdtmed import device", "core must not import device"),
        ("crdtmed.clock", "from . import device", "core must not import device"),
        ("crdtmed.policies.lww_diff", "from ..device.link import Link", "core must not import device"),
        ("crdtmed.policies.lww_diff", "import relay.session", "core must not import relay"),
        ("crdtmed.clock", "from crdtmed.cli import main", "core must not import cli"),
        ("crdtmed.device.link", "import relay", "device must not import relay"),
        ("crdtmed.device.link", "from crdtmed.cli import main", "device must not import cli"),
        ("crdtmed.cli", "from relay import app", "cli must not import relay"),
        ("relay.app", "from crdtmed.device.session import Session", "relay must not import device"),
        ("relay.app", "import crdtmed.cli", "relay must not import cli"),
        ("relay.session", "from relay import app", "relay.app, which is not pure"),
        ("relay.admission.stock", "from .. import app", "relay.app, which is not pure"),
        ("crdtmed.device.session", "from .link import Link", "crdtmed.device.link, which is not pure"),
        ("crdtmed.clock", "import os.path", "must not import os.path"),
        ("crdtmed.clock", "import time", "must not import time"),
        ("crdtmed.clock", "from random import Random", "must not import random"),
        ("crdtmed.clock", "import a_library_nobody_listed", "add it to PURE_IMPORTS"),
        ("crdtmed.clock", "from cryptography.hazmat import primitives", "must not import cryptography"),
        ("relay.admission", "import sqlalchemy", "must not import sqlalchemy"),
        ("crdtmed.device.session", "import asyncio", "must not import asyncio"),
        ("crdtmed.device.session_queue", "import asyncio", "must not import asyncio"),
        ("crdtmed.device.session", "from crdtmed.device import Link", "crdtmed.device, which is not pure"),
        ("crdtmed.clock", "x = datetime.now()", "read the clock: datetime.now"),
        ("crdtmed.clock", "x = datetime.datetime.utcnow", "read the clock: datetime.datetime.utcnow"),
        ("crdtmed.clock", "x = datetime.date.today()", "read the clock"),
        ("crdtmed.clock", "from datetime import datetime as dt; x = dt.now()", "read the clock: dt.now"),
        ("crdtmed.clock", "x = open('a')", "must not use open"),
        ("crdtmed.clock", "x = __import__('os')", "must not use __import__"),
        ("crdtmed.keys", "x = ec.generate_private_key(ec.SECP256R1())", "making keys needs randomness"),
        (
            "crdtmed.keys",
            "from a.b import generate_key as g; x = g()",
            "making keys needs randomness: generate_key",
        ),
        ("crdtmed.clock", "x = pycrdt.Doc()", "without client_id"),
        ("crdtmed.clock", "from pycrdt import Doc as D; x = D({})", "without client_id"),
    ],
)
def test_a_bad_line_is_named(module: str, line: str, words: str) -> None:
    source = f'"""A module made up for this test."""\n\nimport re\n\n\n{line}\n'
    last = [breach for breach in breaches("made/up.py", module, source, MODULES) if breach.line == 6]
    assert any(words in str(breach) for breach in last), last
    assert all(str(breach).startswith("made/up.py:6: ") for breach in last)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("crdtmed.cli", "import os, asyncio; from crdtmed.device.link import Link"),
        ("crdtmed.device.link", "import asyncio, time; from crdtmed import clock; x = open('a')"),
        ("relay.app", "from relay.admission.stock import decide; import sqlalchemy"),
        ("relay.admission.stock", "from crdtmed.policies import lww_diff; from relay.session import State"),
        ("crdtmed.device.session", "from crdtmed.clock import Stamp; from crdtmed.device import session"),
        ("crdtmed.keys", "from cryptography.hazmat.primitives.asymmetric import ec"),
        ("crdtmed.clock", "from datetime import datetime, UTC; x = datetime.fromtimestamp(0, UTC)"),
        ("crdtmed.clock", "x = clock.now(1)"),
        ("crdtmed.clock", "from crdtmed.policies import open; x = open()"),
        ("crdtmed.clock", "x = pycrdt.Doc(client_id=7)"),
    ],
)
def test_a_good_line_is_left_alone(module: str, line: str) -> None:
    assert breaches("made/up.py", module, line + "\n", MODULES) == []


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    found = breaches("crdtmed/policies/__init__.py", "crdtmed.policies", "from ..device import link\n", MODULES)
    assert [str(breach) for breach in found] == [
        "crdtmed/policies/__init__.py:1: core must not import device: crdtmed.device.link"
    ]
