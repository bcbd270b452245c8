"""``python bench/gpu_check.py`` without a GPU: stages' processes, the report, its code on a CPU."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_recorder import Recorder

import lreorg_fast as lf
from bench import cases
from bench.gpu import (
    build,
    device,
    generator,
    native,
    rates,
    recurrence,
    report,
    runner,
    sanitizer,
    training,
)
from bench.gpu import stages as stages_module
from bench.gpu import variants as variants_module
from bench.gpu.channel import Context, Unavailable, WrongResult
from bench.gpu.child import target
from bench.gpu.command import NO_GPU, OK, WRONG, main, slug
from bench.gpu.goals import GOALS
from bench.gpu.runner import FAILED, NOT_RUN, PASSED, TIMED_OUT, UNAVAILABLE, Outcome, Process
from bench.gpu.stages import STAGES, Stage, choose, limit, missing
from bench.gpu.timing import COLD, WARM, Clock, Times, by_turns
from bench.gpu.variants import PEERS, VARIANTS, Variant
from lreorg_fast.cdfnet.backends.cuda import TIER_VARIABLE, TIERS

ROOT = Path(__file__).parents[2]
TOY = lf.CDFNetConfig(dim=32, cond_dim=16, num_blocks=2, growth=8)
SENT_BYTES = 64 << 20  # what the device tool carries

# How the children below talk; they import nothing of the project, so that they start at once.
_SAY = """
import json, os, signal, sys
def say(**message): os.write(int(sys.argv[1]), (json.dumps(message) + "\\n").encode())
failed = json.loads(sys.argv[2])
"""


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def context(tmp_path: Path, **fields: Any) -> Context:
    return Context(**{"root": ROOT, "work": tmp_path, "seconds": 30.0, "device": "cpu", **fields})


def child(tmp_path: Path, body: str, seconds: float = 30.0) -> Outcome:
    """The outcome of a stage whose process runs ``body``."""
    log = tmp_path / "log"
    log.touch()

    def command(outcome: Outcome, end: int) -> Sequence[str]:
        return [sys.executable, "-S", "-c", _SAY + body, str(end), json.dumps(outcome.failed)]

    return runner.run(Process(command, log, tmp_path), seconds, lambda outcome: None)


# Waits for ever without sleeping: nobody writes into this pipe.
BLOCK = "os.read(os.pipe()[0], 1)"


class TestRunner:
    def test_keeps_what_a_stage_says(self, tmp_path: Path) -> None:
        made = child(tmp_path, "say(keep=['a', 'b'], value=[1]); say(keep=['a', 'c'], value=2)")
        assert made.status == PASSED
        assert made.data == {"a": {"b": [1], "c": 2}}

    def test_a_crash_loses_only_its_step(self, tmp_path: Path) -> None:
        body = """
for step in ("one", "two", "three"):
    if step in failed: continue
    say(begin=step, limit=30)
    if step == "two": os.kill(os.getpid(), signal.SIGSEGV)
    say(keep=[step], value=True)
    say(end=step)
"""
        made = child(tmp_path, body)
        assert made.status == FAILED
        assert list(made.failed) == ["two"]
        assert "SIGSEGV" in made.failed["two"]
        assert made.data == {"one": True, "three": True}

    def test_a_hanging_step_is_ended_and_left_out(self, tmp_path: Path) -> None:
        body = f"""
if not failed:
    say(begin="stuck", limit=0.2)
    {BLOCK}
say(keep=["after"], value=1)
"""
        made = child(tmp_path, body)
        assert made.failed == {"stuck": "it took too long"}
        assert made.data == {"after": 1}

    def test_a_hanging_stage_is_ended(self, tmp_path: Path) -> None:
        made = child(tmp_path, f"say(keep=['kept'], value=1)\n{BLOCK}", seconds=1.0)
        assert made.status == TIMED_OUT
        assert made.data in ({"kept": 1}, {})  # where Python itself takes so long to start

    def test_what_a_stage_started_ends_with_it(self, tmp_path: Path) -> None:
        body = f"""
import subprocess
other = subprocess.Popen([sys.executable, "-S", "-c", "import os; {BLOCK}"])
say(keep=["other"], value=other.pid)
say(begin="stuck", limit=0.2)
{BLOCK if False else "other.wait()"}
"""
        made = child(tmp_path, "if failed: sys.exit(0)\n" + body)
        state = Path(f"/proc/{made.data['other']}/stat")
        # It is gone, or dead and not yet collected by whoever adopted it.
        assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"

    def test_a_crash_outside_of_steps_ends_the_stage_with_its_last_words(
        self, tmp_path: Path
    ) -> None:
        made = child(tmp_path, "print('no such library'); sys.stdout.flush(); sys.exit(3)")
        assert made.status == FAILED
        assert made.reason == "its process ended with code 3: no such library"

    def test_a_process_that_fails_again_and_again_is_given_up(self, tmp_path: Path) -> None:
        body = "say(begin='same', limit=30); os.abort()"
        assert child(tmp_path, body).status == FAILED

    def test_says_what_is_unavailable(self, tmp_path: Path) -> None:
        made = child(tmp_path, "say(unavailable='no such tool')")
        assert (made.status, made.reason) == (UNAVAILABLE, "no such tool")

    def test_a_wrong_result_is_more_than_a_failure(self, tmp_path: Path) -> None:
        made = child(tmp_path, "say(fail='x', reason='0.3', wrong=True)")
        assert made.wrong
        assert made.status == FAILED


class TestChannel:
    def test_an_error_ends_its_step_only(self, recorder: Recorder) -> None:
        assert recorder.channel.attempt("bad", 1, lambda: 1 // 0) is None
        assert recorder.channel.attempt("good", 1, lambda: 5) == 5
        assert recorder.failures == {"bad": "ZeroDivisionError: integer division or modulo by zero"}

    def test_leaves_out_what_failed_before(self) -> None:
        recorder = Recorder(failed={"bad": "it crashed"})
        assert recorder.channel.attempt("bad", 1, lambda: pytest.fail("was run")) is None
        assert recorder.messages == []

    def test_marks_wrong_results(self, recorder: Recorder) -> None:
        def check() -> None:
            raise WrongResult("0.3")

        recorder.channel.attempt("check", 1, check)
        assert recorder.messages[-1]["wrong"]


class TestStages:
    def test_limits_fit_the_whole_run(self) -> None:
        assert sum(stage.seconds for stage in STAGES) == stages_module.SECONDS <= 600 - 30

    def test_every_stage_has_its_function(self) -> None:
        assert all(callable(target(stage.target)) for stage in STAGES)

    def test_a_stage_needs_earlier_ones_only(self) -> None:
        names = [stage.name for stage in STAGES]
        assert all(names.index(n) < names.index(s.name) for s in STAGES for n in s.needs)

    def test_chooses_with_what_is_needed(self) -> None:
        assert [stage.name for stage in choose(["tests"])] == ["device", "build", "tests"]
        with pytest.raises(ValueError, match="'nothing' matches no stage"):
            choose(["nothing"])

    def test_a_growing_stage_takes_what_is_left_and_others_do_not(self) -> None:
        small = Stage("a", "", "", 10)
        large = Stage("b", "", "", 10, grows=True)
        assert limit(small, [large], left=100, share=1) == 10
        assert limit(large, [small], left=100, share=1) == 90
        assert limit(large, [small], left=4, share=1) == 4
        assert limit(small, [], left=-1, share=1) == 0

    def test_says_what_is_missing(self) -> None:
        stage = Stage("a", "", "", 1, needs=("build",))
        assert missing(stage, {"build": PASSED}, PASSED) is None
        assert missing(stage, {"build": FAILED}, PASSED) == "it needs stage build, which is failed"


class TestCommand:
    """With the stages of gpu_stages.py, whose processes must find them."""

    @pytest.fixture(autouse=True)
    def _importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def stages(self, first: str, *others: str, **fields: Any) -> list[Stage]:
        rest = [Stage(name, name, f"gpu_stages:{name}", 60, **fields) for name in others]
        return [Stage("device", "device", f"gpu_stages:{first}", 60), *rest]

    def run(self, tmp_path: Path, stages: Sequence[Stage]) -> int:
        folders = ["--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
        return main(folders, stages)

    def record(self, tmp_path: Path) -> dict[str, Any]:
        text = (tmp_path / "out" / "nvidia_test_9000.json").read_text()
        record: dict[str, Any] = json.loads(text)
        return record

    def test_without_a_gpu_it_says_so_and_writes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, self.stages("has_no_gpu", "passes")) == NO_GPU
        assert capsys.readouterr().err == "error: no GPU can be checked: PyTorch finds none.\n"
        assert not (tmp_path / "out").exists()

    def test_writes_the_record_the_tables_and_the_log(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, self.stages("has_gpu", "passes")) == OK
        record = self.record(tmp_path)
        assert record["complete"]
        assert record["stages"]["passes"]["data"] == {"earlier": ["gpu"]}
        assert "# NVIDIA Test 9000" in (tmp_path / "out" / "nvidia_test_9000.md").read_text()
        assert "===== passes" in (tmp_path / "out" / "nvidia_test_9000.log").read_text()
        assert "| passes | passes | passed |" in capsys.readouterr().out

    def test_a_failed_correctness_stage_fails_the_run_but_not_the_others(
        self, tmp_path: Path
    ) -> None:
        stages = self.stages("has_gpu", "fails", "passes", correctness=True)
        assert self.run(tmp_path, stages) == WRONG
        found = self.record(tmp_path)["stages"]
        assert found["fails"]["reason"].startswith("division: ZeroDivisionError")
        assert found["passes"]["status"] == PASSED

    def test_a_failed_measurement_fails_only_itself(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, self.stages("has_gpu", "fails")) == OK

    def test_a_wrong_result_fails_the_run_in_any_stage(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, self.stages("has_gpu", "is_wrong")) == WRONG

    def test_what_needs_a_failed_stage_does_not_run(self, tmp_path: Path) -> None:
        stages = self.stages("has_gpu", "fails")
        stages.append(Stage("last", "last", "gpu_stages:passes", 60, needs=("fails",)))
        self.run(tmp_path, stages)
        assert self.record(tmp_path)["stages"]["last"]["status"] == NOT_RUN

    @pytest.mark.parametrize("arguments", [["--seconds", "5"], ["--seconds", "nan"]])
    def test_refuses_too_little_time(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)

    def test_refuses_unknown_stages(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--stages", "tests,nothing"]) == NO_GPU
        assert "'nothing' matches no stage" in capsys.readouterr().err

    def test_names_files_after_the_device(self) -> None:
        assert slug("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia_geforce_rtx_4090_laptop"

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_the_script_itself_exits_with_one_sentence(self, tmp_path: Path) -> None:
        script = [sys.executable, str(ROOT / "bench" / "gpu_check.py"), "--work", str(tmp_path)]
        done = subprocess.run(script, capture_output=True, text=True)
        assert done.returncode == NO_GPU
        assert done.stderr.startswith("error: no GPU can be checked: PyTorch ")
        assert done.stderr.count("\n") == 1


class TestReport:
    """From synthetic measurements: an engine of 0.5 ms, peers of 4 and 20 ms, and so on."""

    @pytest.fixture
    def record(self) -> dict[str, Any]:
        def times(ms: float) -> dict[str, Any]:
            one = {"wall": [1e-3 * ms] * 3, "device": [0.9e-3 * ms] * 3}
            return {WARM: one, COLD: one}

        names = {"auto-bfloat16": 0.5, "compile-max-autotune-bfloat16-captured": 4.0}
        names |= {"eager-float32": 20.0, "eager-bfloat16": 8.0}
        rows = {name: times(ms) for name, ms in names.items()}
        error = {name: {"max": 1e-2, "rms": 1e-3} for name in names}
        data: dict[str, Any] = {
            "device": {"gpu": {"name": "NVIDIA Test 9000", "capability": [9, 0]}},
            "rates": {
                "matrix": {"bfloat16 8192x8192x8192": {"flops": 8e14, "seconds": 1.0}},
                "copy": {"bytes_per_second": 4e12},
            },
            "exchange": {"exchange": [{"how": "cluster", "group": 16, "ns": 400.0}]},
            "training": {
                "cases": [
                    {
                        "case": "batch 64",
                        "batch": 64,
                        "variants": {
                            "eager": {"wall": [0.03]},
                            "triton": {
                                "wall": [0.01],
                                "activation_bytes": 1000,
                                "activation_bytes_at_half_depth": 1000,
                            },
                        },
                    }
                ]
            },
            "recurrence": {
                "work": {"operations_per_face": 12.4e9},
                "errors": {"1": error, "256": error},
                "times": {"1": rows, "256": {"auto-bfloat16": times(8.0)}},
                "missing": {"triton-bfloat16": "no CUDA device"},
            },
        }
        found = {}
        for name, value in data.items():
            outcome = Outcome(PASSED, data=value).to_dict()
            found[name] = {"title": name, "correctness": False, **outcome}
        return {
            "complete": True,
            "quick": False,
            "date": "2026-11-23",
            "seconds": 100.0,
            "stages": found,
        }

    def test_puts_goals_beside_what_was_measured(self, record: dict[str, Any]) -> None:
        values = {g.what: g.measure(lambda stage: report.data(record, stage)) for g in GOALS}
        assert list(values.values()) == pytest.approx(
            [0.5, 8.0, 16.0, 100 * 256 * 12.4e9 / 8e-3 / 8e14, 3.0, 1.0]
        )
        assert [goal.is_met(values[goal.what] or 0.0) for goal in GOALS] == [
            True,
            True,
            False,
            False,
            True,
            True,
        ]
        assert "| 16 x | **missed** |" in report.summary(record)

    def test_has_all_tables(self, record: dict[str, Any]) -> None:
        text = report.markdown(record)
        for words in (
            "| variant | 1 face | 256 faces |",
            "| auto-bfloat16 | 0.5 / 0.5 | 8 / 8 |",
            "| triton-bfloat16 | no CUDA device |  |",
            "## 256 faces",
            "| cluster | 16 | 400.0 |",
            "800.0 TFLOP/s",
            "4000 GB/s",
            "| batch 64 | triton | 10 | 3.00x |",
        ):
            assert words in text

    def test_does_without_what_was_not_measured(self, record: dict[str, Any]) -> None:
        for name in ("rates", "recurrence", "training", "exchange"):
            record["stages"][name]["data"] = {}
        assert report.markdown(record).count("not measured") == len(GOALS)

    def test_shows_why_a_stage_failed_and_that_a_run_is_partial(
        self, record: dict[str, Any]
    ) -> None:
        failed = {"status": FAILED, "failed": {"test_x": "a | b\nc"}}
        record["stages"]["rates"] |= failed
        record["complete"] = False
        text = report.markdown(record)
        assert "test_x: a / b c" in text
        assert "did not finish" in text


class TestDevice:
    @pytest.mark.parametrize(
        ("capability", "name"), [((9, 0), "90a"), ((8, 0), "80"), ((12, 0), "120")]
    )
    def test_names_the_architecture(self, capability: tuple[int, int], name: str) -> None:
        assert device.architecture(*capability) == name

    def test_describes_a_machine_without_a_gpu(self, tmp_path: Path, recorder: Recorder) -> None:
        device.describe(context(tmp_path), recorder.channel)
        assert recorder.failures == {}
        assert recorder.data["packages"]["torch"]
        assert len(recorder.data["sources"]) == 16

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_says_why_there_is_no_gpu(self) -> None:
        with pytest.raises(Unavailable, match=r"no GPU can be checked: PyTorch \S+ "):
            device.gpu()

    def test_finds_the_line_with_the_version(self) -> None:
        assert "3." in (device.version([sys.executable, "--version"]) or "")
        assert device.version(["no-such-program"]) is None


class TestBuild:
    def test_says_every_missing_tool(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(build.shutil, "which", lambda *_, **__: None)
        monkeypatch.setattr(build, "find_nvcc", lambda: None)
        monkeypatch.setattr(build, "_has", lambda module: False)
        with pytest.raises(build.BuildFailed) as error:
            build.Tools.find()
        for tool in ("nvcc", "c++", "cmake", "ninja and make", "pybind11"):
            assert f"{tool}" in str(error.value)

    def test_builds_for_one_architecture_only(self, tmp_path: Path) -> None:
        tools = build.Tools("cmake", "nvcc", ("Ninja", "ninja"), "pybind11")
        line = build.configure(ROOT, tmp_path, tmp_path / "site", tools, "90a")
        assert "-DLREORG_CUDA_ARCHS=90a" in line
        assert "-DLREORG_BUILD_CUDA=1" in line
        probe = build.probe_command(context(tmp_path), "nvcc", "90a", "exchange")
        assert "arch=compute_90a,code=sm_90a" in probe

    def test_copies_what_python_needs(self, tmp_path: Path) -> None:
        build.copy_sources(ROOT, tmp_path / "lreorg_fast")
        assert (tmp_path / "lreorg_fast" / "cdfnet" / "engine.py").is_file()
        assert (tmp_path / "lreorg_fast" / "kernels" / "__init__.py").is_file()
        assert not list(tmp_path.rglob("*.so"))

    def test_a_tool_that_fails_is_an_error(self) -> None:
        with pytest.raises(build.BuildFailed, match="code 3"):
            build.call([sys.executable, "-c", "raise SystemExit(3)"])

    @pytest.mark.parametrize("name", [*build.PROBES, build.CHECKER])
    def test_the_probes_compile(self, name: str, tmp_path: Path) -> None:
        nvcc = build.find_nvcc()
        if nvcc is None:
            pytest.skip("there is no nvcc")
        command = build.probe_command(context(tmp_path), nvcc, "90a", name)
        subprocess.run([*command, "-c"], check=True)


def test_the_working_tree_is_small_enough_to_be_sent() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    files = [ROOT / name.decode() for name in set(listed.stdout.split(b"\0")) if name]
    sizes = [path.stat().st_size for path in files if path.is_file()]
    assert len(sizes) > 100
    assert sum(sizes) < SENT_BYTES


class TestTests:
    def write(self, tmp_path: Path, text: str) -> Path:
        folder = tmp_path / "cases"
        folder.mkdir()
        (folder / "test_cases.py").write_text(text)
        return folder

    def run(self, tmp_path: Path, text: str, **fields: Any) -> Recorder:
        """In a process of its own: pytest does not run inside pytest."""
        folder, said = self.write(tmp_path, text), tmp_path / "said"
        code = (
            "import json, sys; from pathlib import Path; from bench.gpu import tests\n"
            "from bench.gpu.channel import Channel, Context\n"
            "root, work, folder, said, fields = sys.argv[1:]\n"
            "fields = json.loads(fields)\n"
            "context = Context(Path(root), Path(work), 30, device='cpu', kept=fields['kept'])\n"
            "channel = Channel(open(said, 'w'), fields['failed'])\n"
            "tests.run(context, channel, Path(folder))\n"
        )
        fields = {"kept": {}, "failed": {}} | fields
        arguments = [str(ROOT), str(tmp_path), str(folder), str(said), json.dumps(fields)]
        self.done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        recorder = Recorder()
        recorder._stream.write(said.read_text())
        return recorder

    def test_every_test_is_a_step(self, tmp_path: Path) -> None:
        text = (
            "import pytest\ndef test_a(): pass\ndef test_b(): assert 1 == 2\n"
            "@pytest.mark.skip(reason='no')\ndef test_c(): pass\n"
        )
        made = self.run(tmp_path, text)
        assert made.data["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
        ((name, reason),) = made.failures.items()
        assert name.endswith("test_b")
        assert "1 == 2" in reason

    def test_leaves_out_what_an_earlier_process_did(self, tmp_path: Path) -> None:
        text = "def test_a(): assert 0\ndef test_b(): pass\n"
        first = self.run(tmp_path, text)
        (tmp_path / "cases" / "test_cases.py").unlink()
        (tmp_path / "cases").rmdir()
        again = self.run(tmp_path, text, kept=first.data, failed=first.failures)
        assert again.failures == {}
        assert again.data["counts"] == {"passed": 1, "failed": 1}

    def test_no_test_is_no_success(self, tmp_path: Path) -> None:
        self.run(tmp_path, "")
        assert self.done.returncode != 0
        assert "no test of" in self.done.stderr


class TestTiming:
    def test_takes_turns_until_the_time_is_up(self) -> None:
        order: list[str] = []
        calls = {name: lambda name=name: order.append(name) for name in ("a", "b")}
        found = by_turns(calls, Clock("cpu", 1 << 10), (WARM, COLD), rounds=1, seconds=30)
        assert set(found) == {"a", "b"}
        assert order.index("b") > order.count("a") - 1  # all of one's turn, then the other's
        for times in (times for caches in found.values() for times in caches.values()):
            assert len(times.wall) == len(times.device) >= 1

    def test_a_round_that_has_begun_is_finished(self) -> None:
        calls = {"a": lambda: None, "b": lambda: None}
        found = by_turns(calls, Clock("cpu", 1 << 10), (WARM,), rounds=9, seconds=0)
        assert all(found[name][WARM].wall for name in calls)

    def test_empties_the_caches_before_a_cold_call_only(self) -> None:
        clock = Clock("cpu", 1 << 10)
        clock._flush.fill_(-1)
        clock.once(lambda: None, WARM, Times())
        assert bool((clock._flush == -1).all())
        clock.once(lambda: None, COLD, Times())
        assert not bool((clock._flush == -1).any())


class TestVariants:
    def test_names_are_unique(self) -> None:
        names = [variant.name for variant in VARIANTS]
        assert len(set(names)) == len(names)

    def test_the_goals_name_variants(self) -> None:
        from bench.gpu import goals

        names = {variant.name for variant in VARIANTS}
        assert {goals.ENGINE, goals.AUTOTUNED, *goals.EAGER} <= names

    def test_quick_runs_leave_out_what_is_slow(self) -> None:
        assert not any(variant.slow for variant in variants_module.choose(True, 1))
        assert set(variants_module.choose(False, 1)) == set(VARIANTS)

    def test_autotuned_ones_have_their_numbers_of_faces(self) -> None:
        assert not any(variant.faces for variant in variants_module.choose(False, 2))

    @pytest.mark.parametrize(
        "variant",
        [v for v in PEERS if v.runtime == "eager" and not v.captured],
        ids=lambda v: v.name,
    )
    def test_peers_are_right_on_a_cpu(self, variant: Variant) -> None:
        self.check(variant)

    @pytest.mark.parametrize("activations", ["auto", "float32"])
    def test_an_engine_is_right_on_a_cpu(self, activations: str) -> None:
        self.check(Variant("cpu", "bfloat16", activations=activations))

    def test_the_folded_network_is_right(self) -> None:
        self.check(Variant("eager", "float32", "folded"))

    def test_compiled_blocks_share_their_graphs(self) -> None:
        # "eager" instead of Inductor, which takes a minute; the capture by Dynamo is the same.
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        module = variants_module.recurrence_module("reference", TOY)
        variants_module.compile_blocks(module.net, None, backend="eager")
        s, f = (x.reshape(-1, TOY.dim) for x in cases.inputs(2, TOY))
        made = module(s, f).reshape(2, -1, TOY.dim)
        assert float((made - cases.expected(2, TOY)).abs().max()) < 1e-3
        # One for each direction, not for each block and pass.
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4

    def check(self, variant: Variant) -> None:
        prepare, facts = variants_module.build(variant, "cpu", TOY)
        inputs = cases.inputs(3, TOY)
        _, error = recurrence._prepared((variant, prepare, facts), inputs, cases.expected(3, TOY))
        assert 0 < error["rms"] < (1e-4 if variant.dtype == "float32" else 0.5)

    def test_a_backend_that_cannot_run_is_missing(self) -> None:
        found = variants_module.missing(Variant("cuda", "bfloat16"))
        assert torch.cuda.is_available() or found
        assert variants_module.missing(Variant("cuda", "int8"))
        assert "does not offer int7" in str(variants_module.missing(Variant("cpu", "int7")))

    def test_a_tier_is_asked_for_through_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TIER_VARIABLE, "auto")
        tiers = {variant.tier for variant in VARIANTS} - {""}
        assert tiers == set(sanitizer.TIERS) == set(TIERS) - {"auto"}
        for tier in tiers:
            with variants_module._tier(tier):
                assert os.environ[TIER_VARIABLE] == tier
        assert os.environ[TIER_VARIABLE] == "auto"


class TestMeasurements:
    """The code of the stages at toy sizes on a CPU."""

    def test_recurrence(self, tmp_path: Path, recorder: Recorder, monkeypatch: Any) -> None:
        chosen = [Variant("cpu", "bfloat16"), *PEERS[:2], Variant("cuda", "int8")]
        monkeypatch.setattr(recurrence, "choose", lambda quick, faces: chosen)
        recurrence.measure(
            context(tmp_path, quick=True, seconds=10.0), recorder.channel, TOY, faces=(1, 3)
        )
        assert recorder.failures == {}
        data = recorder.data
        names = ["cpu-bfloat16", "eager-float32", "eager-bfloat16"]
        for count in ("1", "3"):
            assert list(data["times"][count]) == names
            assert set(data["errors"][count]) == set(names)
        assert "cuda-int8" in data["missing"]
        assert data["work"]["steps"] == 10

    def test_recurrence_goes_on_where_a_process_ended(
        self, tmp_path: Path, recorder: Recorder, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(recurrence, "choose", lambda quick, faces: [PEERS[0]])
        kept = {"times": {"1": {}}}
        recurrence.measure(
            context(tmp_path, quick=True, seconds=5.0, kept=kept), recorder.channel, TOY, (1, 2)
        )
        assert list(recorder.data["times"]) == ["2"]

    def test_a_wrong_engine_is_found(self) -> None:
        facts = {"activations": "bfloat16"}
        engine, peer = Variant("cuda", "bfloat16"), PEERS[1]
        recurrence.judge(engine, facts, {"max": 1e-2, "rms": 1e-3}, plain=0.1)
        recurrence.judge(peer, facts, {"max": 9.0, "rms": 9.0}, plain=0.1)
        for rms in (0.09, math.nan):
            with pytest.raises(WrongResult):
                recurrence.judge(engine, facts, {"max": 1.0, "rms": rms}, plain=0.1)
        exact = Variant("cuda", "float32")
        with pytest.raises(WrongResult):
            recurrence.judge(exact, facts, {"max": 1e-2, "rms": 1e-3}, plain=0.1)

    def test_rates(self, tmp_path: Path, recorder: Recorder) -> None:
        rates.measure(context(tmp_path), recorder.channel)
        assert recorder.failures == {}
        assert recorder.data["copy"]["bytes_per_second"] > 0
        assert all(found["flops"] > 0 for found in recorder.data["matrix"].values())

    def test_generator(self, tmp_path: Path, recorder: Recorder) -> None:
        network = (
            {"plain float32": torch.sin, "prepared bfloat16": lambda w: torch.sin(w) + 1},
            lambda batch: torch.randn(batch, 4, 8),
            1.0,
        )
        generator.measure(context(tmp_path, seconds=1.0), recorder.channel, network)
        assert set(recorder.failures) == {
            f"batch {batch}, prepared bfloat16" for batch in generator.BATCHES
        }
        assert [list(case["variants"]) for case in recorder.data["cases"]] == [
            ["plain float32"],
            ["plain float32"],
        ]

    def test_training(self, tmp_path: Path, recorder: Recorder) -> None:
        class Broken:
            """Its fuse forgets the key feature."""

            def __init__(self, net: lf.CDFNet) -> None:
                self.disentangle, self._net = net.disentangle, net

            def fuse(self, f: torch.Tensor, r: torch.Tensor, k: torch.Tensor) -> Any:
                return self._net.fuse(torch.zeros_like(f), r, k)

        wraps = {**training.WRAPS, "triton": Broken}
        training.measure(context(tmp_path, seconds=1.0), recorder.channel, TOY, 2, wraps)
        assert list(recorder.failures) == ["triton"]
        (case,) = recorder.data["cases"]
        errors = {name: found["gradient_error"] for name, found in case["variants"].items()}
        assert list(errors) == ["eager", "eager-autocast", "triton-bfloat16"]
        assert errors["eager"] < 1e-5 < errors["triton-bfloat16"]

    def test_training_in_constant_memory(self, tmp_path: Path, recorder: Recorder) -> None:
        training.measure(context(tmp_path, seconds=1.0), recorder.channel, TOY, 2)
        assert recorder.failures == {}
        assert recorder.data["cases"][0]["variants"]["triton"]["gradient_error"] < 1e-4

    def test_probes_say_what_is_wrong(self, tmp_path: Path, recorder: Recorder) -> None:
        for name, wrong in zip(build.PROBES, (0, 2), strict=True):
            program = tmp_path / name
            program.write_text(f'#!/bin/sh\necho \'{{"ns": 1.5, "wrong": {wrong}}}\'\n')
            program.chmod(0o755)
        native.measure(context(tmp_path), recorder.channel)
        assert list(recorder.failures) == ["stream"]
        assert recorder.data["exchange"] == [{"ns": 1.5, "wrong": 0}]


class TestSanitizer:
    def test_every_tier_and_type_has_a_case(self) -> None:
        found = {(case.tier, case.dtype) for case in sanitizer.cases(quick=False)}
        assert found == {(t, d) for t in sanitizer.TIERS for d in sanitizer.WEIGHTS}
        names = [case.name for case in sanitizer.cases(quick=False)]
        assert len(set(names)) == len(names)

    def test_writes_a_case_of_the_size_that_its_head_says(self) -> None:
        import numpy as np

        case = sanitizer.Case("grid", "bfloat16", 40, 8, 2, 5)
        content = sanitizer.content(case, group=2)
        head = np.frombuffer(content[:60], np.int32)
        assert list(head[:3]) == [40, 2, 8]
        weight_bytes, constants, steps, lanes, inputs = head[8:13]
        values = (inputs + 1) * case.tokens * case.dim
        assert len(content) == 60 + weight_bytes + 4 * (constants + 3 * steps + 5 * lanes + values)

    def test_finds_what_is_wrong(self) -> None:
        case = sanitizer.Case("grid", "float32", 64, 16, 2, 14)
        good = {"finite": True, "rms_error": 1e-6, "same": True}
        sanitizer.check(case, good)
        for bad in ({"finite": False}, {"rms_error": 1e-2}, {"same": False}):
            with pytest.raises(WrongResult):
                sanitizer.check(case, good | bad)

    @pytest.mark.parametrize(
        ("words", "code", "error"),
        [
            (
                "========= Invalid __global__ write\n========= ERROR SUMMARY: 1 error",
                9,
                WrongResult,
            ),
            ("Error: Device not supported.", 1, Unavailable),
        ],
    )
    def test_reads_what_the_tool_says(self, words: str, code: int, error: type[Exception]) -> None:
        script = f"print({words!r}); raise SystemExit({code})"
        with pytest.raises(error):
            sanitizer.check_tool([sys.executable, "-c", script])
        sanitizer.check_tool([sys.executable, "-c", "print('ERROR SUMMARY: 0 errors')"])
