"""Every reader on a committed corpus and on its mutations: a value or a refusal, nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.readers import CORPUS, READERS, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = sorted(f"{path.parent.name}/{path.name}" for path in CORPUS.glob("*/*"))
_INTERESTING = [b"\0", b"\xff", b"\x7f", b"-1", b"9" * 30, b"[" * 50, b"\xff" * 8, b"\0" * 8, b"{}"]


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutated(content: bytes, number: int) -> bytes:
    """One of many damaged forms: flips, cuts, repetitions and insertions, repeatable."""
    generator = random.Random(number)
    data = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data) + 1)
        end = min(len(data), at + generator.randint(0, 16))
        kind = generator.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at:end] = generator.choice(_INTERESTING)
        elif kind == 2:
            data[at:end] = data[at:end] * generator.randint(0, 3)
        elif kind == 3 and generator.randrange(4) == 0:
            del data[at:]
        elif at < len(data):
            data[at] = generator.randrange(256)
    return bytes(data)


def test_every_reader_has_a_corpus_and_every_corpus_a_reader() -> None:
    assert {case.split("/")[0] for case in CASES} == set(READERS)


@pytest.mark.parametrize("case", CASES)
def test_the_corpus_is_read(case: str, tmp_path: Path) -> None:
    """Without a good file that is accepted, mutations of it would test nothing."""
    reader = READERS[case.split("/")[0]]
    content = (CORPUS / case).read_bytes()
    if "/good" in case:
        assert reader.read(content, tmp_path) is not None
        return
    with pytest.raises(reader.refusals):
        reader.read(content, tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # Pillow's
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60)
@given(number=st.integers(0, 2**32))
def test_mutations_are_a_value_or_a_refusal(
    name: str, number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = READERS[name]
    every = seeds(name)
    content = mutated(every[number % len(every)], number)
    if reader.repair is not None and number % 2:
        content = reader.repair(content)
    with contextlib.suppress(*reader.refusals):
        reader.read(content, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=20)
@given(content=st.binary(max_size=200))
def test_noise_is_refused(
    name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(READERS[name].refusals):
        READERS[name].read(content, tmp_path_factory.getbasetemp())


def test_the_native_harness_reads_the_corpus_under_sanitizers(tmp_path: Path) -> None:
    """The same program that libFuzzer drives by hand, built by whatever compiler is here."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    core = [str(ROOT / "csrc" / "core" / f"{name}.cpp") for name in ("packed", "layout", "memory")]
    program = tmp_path / "replay"
    # Unoptimized: it compiles in a fifth of the time, and the inputs are few.
    flags = ["-std=c++20", "-O0", "-DLREORG_REPLAY", "-fsanitize=address,undefined"]
    folders = ["-I", str(ROOT / "csrc"), "-I", str(ROOT / "kernels")]
    harness = str(ROOT / "tests" / "fuzz" / "packed_fuzzer.cpp")
    command = [compiler, *flags, *folders, harness, *core, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if built.returncode != 0 and "asan" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr[-4000:]
    files = [str(path) for path in sorted((CORPUS / "packed").iterdir())]
    for number in range(40):
        content = mutated(Path(files[number % len(files)]).read_bytes(), number)
        files.append(str(tmp_path / f"{number}"))
        (tmp_path / f"{number}").write_bytes(content)
    settings = {"ASAN_OPTIONS": "max_allocation_size_mb=64", "UBSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(
        [str(program), *files], capture_output=True, text=True, env=os.environ | settings
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{len(files)} inputs read\n"


def test_the_harness_for_atheris_names_its_readers() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fuzz" / "fuzz.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in READERS)
