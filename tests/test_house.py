"""House rules that no linter knows: words and paths that stay out, sizes, the lock, README's commands."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# What may stand at the top of the repository. A new name needs a good reason.
TOP_LEVEL = frozenset(
    {
        *(".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock"),
        *("bench", "crdtmed", "relay", "tests"),
    }
)
# 300 lines is the aim for a module; a few that are better read in one piece may go to this.
MAX_MODULE_LINES = 400

# Time zones are data: the newest is the right one.
UNBOUNDED = frozenset({"tzdata"})

# Written in pieces, so that this file holds none of them.
_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "npmjs" + ".com", "deb.debian" + ".org"]
_PATHS = [
    "/" + "work/",
    "/tmp" + "/plan",
    "/tmp" + "/studio",
    "/opt" + "/pypi",
    "/opt" + "/wheels",
    "/ro" + "ot/",
]
_UNFINISHED = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
FORBIDDEN = {
    "a registry's host": re.compile("|".join(map(re.escape, _HOSTS))),
    "a path of one machine": re.compile("|".join(map(re.escape, _PATHS))),
    "a mark of unfinished work": re.compile(rf"\b({'|'.join(_UNFINISHED)})\b"),
}
# A silenced checker names what it silences and, after that, says why: at least two words.
_SILENCE = re.compile("#\\s*(?:type:\\s*ig" + "nore|no" + "qa)\\b(?P<rest>.*)")
_CODES = re.compile(r"(\[[\w\-, ]+\]|:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)")
_REASON = re.compile(r"[A-Za-z`']{2,}\W+[A-Za-z`']{2,}")
_SLEEP = re.compile("time" + r"\.sleep|from time import .*\bsleep\b")
LIMITS = "crdtmed/limits.py"
# What bounds something stands in one file; what is reckoned from such a bound may stand where it is used.
_LIMIT = re.compile(r"_?MAX_\w+(?:: Final)? = [0-9][0-9_]*\Z")
_VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)(_|$)")


def tracked() -> list[str]:
    """Paths of the files in git, from the top of the repository."""
    # The owner of a checkout may be another user (containers): git then wants to be told that it is safe.
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z", "--cached"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for path in listing.split("\0") if path and (ROOT / path).is_file()]


def text_files() -> Iterator[tuple[str, str]]:
    """(path, content) of every file in git that is text."""
    for path in tracked():
        try:
            yield path, (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or other binary file has no words


def unexplained(line: str) -> bool:
    """Whether the line silences a checker without naming the code, or without a reason after it."""
    silence = _SILENCE.search(line)
    if silence is None:
        return False
    codes = _CODES.match(silence["rest"].lstrip())
    return codes is None or _REASON.search(silence["rest"].lstrip()[codes.end() :]) is None


def faults(path: str, text: str) -> list[str]:
    """What is wrong in one file, with path and line number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{path}:{number}: {what}" for what, words in FORBIDDEN.items() if words.search(line)]
        if path.endswith(".py") and unexplained(line):
            found.append(f"{path}:{number}: a checker is silenced without its code, or without a reason after it")
        if path.startswith(("crdtmed/", "relay/")) and path != LIMITS and _LIMIT.match(line):
            found.append(f"{path}:{number}: a limit; it belongs in {LIMITS}, with its unit")
        if path.startswith("tests/") and _SLEEP.search(line):
            found.append(f"{path}:{number}: a test that sleeps; wait for the event itself")
    if path.startswith(("crdtmed/", "relay/")) and path.endswith(".py"):
        if (lines := text.count("\n")) > MAX_MODULE_LINES:
            found.append(f"{path}:1: {lines} lines; aim at 300, never over {MAX_MODULE_LINES}")
        if _VAGUE_NAMES.search(Path(path).stem):
            found.append(f"{path}:1: a module is named for what it does")
    return found


def test_every_file_keeps_the_house_rules() -> None:
    files = list(text_files())
    assert len(files) > 5
    found = [fault for path, text in files for fault in faults(path, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "line", "words"),
    [
        ("README.md", "see https://" + _HOSTS[0] + "/x", "a registry's host"),
        ("bench/x.py", "p = '" + _PATHS[0] + "x'", "a path of one machine"),
        ("crdtmed/x.py", "# " + _UNFINISHED[0] + ": later", "unfinished work"),
        ("crdtmed/x.py", "raise " + _UNFINISHED[3], "unfinished work"),
        ("crdtmed/x.py", "x()  # type: ig" + "nore", "silenced"),
        ("crdtmed/x.py", "x()  # type: ig" + "nore[arg-type]", "silenced"),
        ("crdtmed/x.py", "x()  # no" + "qa", "silenced"),
        ("crdtmed/x.py", "x()  # no" + "qa: S101, S102", "silenced"),
        ("crdtmed/x.py", "x()  # no" + "qa: because it is fine", "silenced"),
        ("tests/x.py", "time" + ".sleep(1)", "a test that sleeps"),
        ("crdtmed/x.py", "\n" * MAX_MODULE_LINES, "401 lines"),
        ("relay/storage_helpers.py", "", "named for what it does"),
    ],
)
def test_a_fault_is_named(path: str, line: str, words: str) -> None:
    found = faults(path, f'"""A module made up for this test."""{line}\n')
    assert len(found) == 1
    assert found[0].startswith(f"{path}:1: ")
    assert words in found[0]


def test_a_limit_stands_with_the_others() -> None:
    line = "MAX_DOORS: Final = 16\n"
    assert faults("relay/x.py", line) == [f"relay/x.py:1: a limit; it belongs in {LIMITS}, with its unit"]
    assert faults(LIMITS, line) == faults("relay/x.py", "MAX_ALL: Final = 2 * MAX_DOORS\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "x()  # type: ig" + "nore[arg-type]  # the stub of this library is wrong",
        "x()  # no" + "qa: S608  values are bound, names are our own",
        "x()  # the type is known here",
        "prefix" + _UNFINISHED[2] + "suffix = 1",
        "\n" * (MAX_MODULE_LINES - 1),
    ],
)
def test_what_is_no_fault_is_left_alone(line: str) -> None:
    assert faults("crdtmed/orders.py", line + "\n") == []


def test_nothing_unexpected_stands_at_the_top() -> None:
    top = {path.split("/")[0] for path in tracked()}
    assert top <= TOP_LEVEL, f"give a reason for these, and add them to TOP_LEVEL: {sorted(top - TOP_LEVEL)}"


def pins(lock: str) -> dict[str, str]:
    """Package -> exact version, from the text of the lock."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock, re.M)}


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
    ]
    missing = []
    for line in wanted:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or version not in requirement.specifier:
            missing.append(f"{line} (locked: {version})")
        bounded = any(clause.operator in ("<", "==", "~=") for clause in requirement.specifier)
        if not bounded and requirement.name not in UNBOUNDED:
            missing.append(f"{line} has no upper bound")
    assert not missing, f"run `make lock`, and commit requirements.lock: {missing}"


def test_every_pin_of_the_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=[\w.-]+==)", lock)[1:] if entry.strip()]
    assert len(entries) > 20
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"^.*(?:://|--index-url|--extra-index-url|--find-links| @ ).*$", lock, re.M) == []


def test_the_commands_that_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    named = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert {"test", "check"} <= named
    assert named <= targets, f"README.md names make targets that do not exist: {sorted(named - targets)}"
    assert re.findall(r"^make ([a-z]+)$", gate, re.M) == ["check", "test"]


def test_a_folder_of_the_same_name_does_not_keep_a_command_from_running() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.M)
    assert set(re.findall(r"^([a-z]+):", makefile, re.M)) == set(phony.split())
