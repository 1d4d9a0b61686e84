"""Coverage-guided fuzzing of everything that reads octets from outside: `python -m tests.fuzz TARGET --minutes 10`.

Fuzzing needs atheris, which `make env` installs where atheris has a wheel. A target is a function that gets octets and
raises an exception if the code under test breaks a rule. A rule is broken, for example, by an undocumented exception,
by a reading that differs from dnspython's, by a round trip that changes something, or by too much CPU time.
`test_replay.py` runs the stored inputs of all targets without atheris.

New inputs are kept in `.fuzz/corpus/TARGET`. An input that shows a fault is kept in `.fuzz/crashes`. `--save FILE` adds
such a file to the stored inputs in the repository, which the tests replay.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

WORK: Final = Path(".fuzz")
MEMORY: Final = 1024
"""The most memory of the fuzzing process, in MiB: a target that keeps something from each input ends here."""
STRUCTURED: Final = 0.7
"""The share of new inputs that the mutator of the target makes. The fuzzer makes the others."""
LONGEST: Final = 10
"""The seconds after which an input counts as one that never ends."""


def main() -> int:
    """Runs the command. The exit code is not 0 if a fault was found."""
    arguments = _parser().parse_args()
    if arguments.save is not None:
        _save(arguments.save, arguments.targets)
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("make fuzz needs atheris: Linux on x86-64 with CPython 3.11 to 3.13, and `make env`")
        return 2
    if len(arguments.targets) == 1 and arguments.targets != ["all"]:
        _fuzz(arguments.targets[0], arguments)
        return 0
    names = _names() if arguments.targets == ["all"] else arguments.targets
    if not names:
        print(f"targets: {' '.join(_names())}; or all")
    options = [f"--minutes={arguments.minutes}", f"--runs={arguments.runs}"]
    ended = {name: subprocess.call([sys.executable, "-m", "tests.fuzz", name, *options]) for name in names}
    for name, code in ended.items():
        print(f"{name}: {'a fault was found' if code else 'no fault'}")
    return int(any(ended.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Coverage-guided fuzzing of one or more targets.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="`all`, or names; without any, lists the targets")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes for each target (default 1)")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target (default: no limit)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="add FILE to the stored inputs of TARGET")
    return parser


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def _fuzz(name: str, arguments: argparse.Namespace) -> None:
    """Fuzzes one target. The function does not return, because libFuzzer ends the process."""
    import logging

    import atheris

    logging.disable()
    with atheris.instrument_imports(include=["svcdns"]):
        from tests.fuzz.target import execute, inputs
        from tests.fuzz.targets import TARGETS

        target = TARGETS[name]
        for data in inputs(target):  # imports what is only imported when it is needed, such as plugins
            target.run(data)
    corpus, crashes = WORK / "corpus" / name, WORK / "crashes"
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    flags: dict[str, object] = {
        "max_total_time": int(arguments.minutes * 60),
        "runs": arguments.runs,
        "max_len": target.max_octets,
        "timeout": LONGEST,
        "rss_limit_mb": MEMORY,
        "artifact_prefix": f"{crashes}/{name}-",
        "print_final_stats": 1,
    }
    if target.words:
        dictionary = WORK / f"{name}.dict"
        hexadecimal = ("".join(f"\\x{octet:02x}" for octet in word.encode()) for word in target.words)
        dictionary.write_text("".join(f'"{word}"\n' for word in hexadecimal))
        flags["dict"] = str(dictionary)
    options = [f"-{flag}={value}" for flag, value in flags.items()]

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if target.mutate is not None and rng.random() < STRUCTURED:
            with contextlib.suppress(ValueError):
                for _ in range(rng.choice((1, 1, 2, 4))):
                    data = target.mutate(data, rng)
                return data[:most]
        return bytes(atheris.Mutate(data, most))

    hooks = {} if target.mutate is None else {"custom_mutator": mutated}
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: execute(target, data), **hooks)
    atheris.Fuzz()


def _save(path: Path, targets: list[str]) -> None:
    from tests.fuzz.target import FOLDER

    (name,) = targets
    with (FOLDER / "crashes" / f"{name}.txt").open("a") as file:
        file.write(f"{path.read_bytes()!r}\n")


if __name__ == "__main__":
    sys.exit(main())
