"""Runs and times what lies beside this file, and keeps all results in one JSON file.

run.sh starts it. It needs the standard library alone; the programs need the libraries of a PyTorch that
this Python has, and PyTorch's side of the comparison needs all of it. README.md says what is measured.
"""

import argparse
import csv
import datetime
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {
    "environment": "the machine, and one short run of one step",
    "ceilings": "the fastest matrix products, through our program and through PyTorch",
    "compare": "GPT-2 in bf16: the last step beside PyTorch, eager and compiled",
    "ladder": "every step with a model, at GPT-2's size, with its proofs",
    "batch": "the same comparison with the largest batch that fits",
    "precisions": "the same comparison in tf32 and fp32",
    "defaults": "every step's own run, at its smallest size; samples are kept",
}
OUTPUT = 60_000  # characters kept of what a program prints
FILE = 9_500_000  # bytes of the results at most
QUICK_STEPS = 2  # of training, with --quick
QUICK_LIMIT = 40  # seconds for a step's run, with --quick
GRACE = 3  # seconds between TERM and KILL
RESERVE = 2  # seconds before the deadline that belong to us
SLOW_BF16 = "nothing here is fast at bfloat16: it would take minutes, and show nothing"
TRAINS_IN_BF16 = "mixed_precision"  # in the name of the step whose proof does so wherever it runs
FINAL = ("done", "failed", "stopped", "out of memory")  # states that --resume does not try again


class Interrupted(BaseException):
    """Somebody wants this program to end."""


class Unusable(Exception):
    """Nothing can be measured here; the message says why and what to do."""


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with Session(args) as session:
            return session.all_parts()
    except (Unusable, OSError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        print("interrupted; what was done is kept", file=sys.stderr)
        return 130


def arguments():
    parts = "\n".join(f"  {name:12} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="run.sh",
        description="Measures what lies in this folder on a GPU, in the order of value, and keeps it all in "
        "DIR/results.json.\n\nparts, in their order:\n" + parts,
        epilog="Exit code 0: all was done; 1: a program failed; 2: nothing can be measured here; 3: time "
        "ran out, and --resume goes on.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=minutes, default=9.0, metavar="N", help="stop after N minutes [default: 9]"
    )
    parser.add_argument("--cpu", action="store_true", help="measure on the CPU, to see that all works")
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, a step or two; the times mean nothing"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default="out/gpu",
        metavar="DIR",
        help="where results.json goes [default: out/gpu]",
    )
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), metavar="PART", help="this part, as often as wanted"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from DIR/results.json with what is not done yet"
    )
    return parser.parse_args()


def minutes(text):
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("choose a number above 0")
    return number


def interrupt(*_):
    raise Interrupted


class Session:
    """One call of run.sh: its deadline, its results."""

    def __init__(self, args):
        self.args = args
        self.begin = time.monotonic()
        self.deadline = self.begin + 60 * args.minutes - RESERVE
        self.device = "cpu" if args.cpu else "cuda"
        self.helps = {}
        self.left = []  # what there was no time for
        if not (HERE / "pack.json").exists():
            raise Unusable(
                f"{HERE} is no pack: make one with `cargo xtask gpu-pack`, and start the run.sh in it"
            )
        self.pack = json.loads((HERE / "pack.json").read_text())
        if self.device == "cuda" and not self.pack["cuda"]:
            raise Unusable(
                "this pack is of programs for CPUs: say --cpu, or make one with `cargo xtask gpu-pack`"
            )
        self.environment = environment(self.pack)
        if args.cpu and args.quick:
            # Models so small are no slower with one thread, and far faster where others use the cores too.
            self.environment["OMP_NUM_THREADS"] = "1"
        args.out.mkdir(parents=True, exist_ok=True)
        self.path = args.out / "results.json"
        self.results = {
            "pack": self.pack,
            "device": self.device,
            "quick": args.quick,
            "machine": {},
            "runs": [],
        }
        if args.resume and self.path.exists():
            self.take_over()
        self.results["date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.save()  # a folder that cannot be written is known before the work
        self.temporary = tempfile.TemporaryDirectory(prefix="gpu-pack-", ignore_cleanup_errors=True)
        self.watch = Watch() if self.device == "cuda" else None

    def take_over(self):
        try:
            old = json.loads(self.path.read_text())
        except ValueError:
            raise Unusable(f"{self.path} is not of this program: choose another --out") from None
        for key in ("pack", "device", "quick"):
            if old.get(key) != self.results[key]:
                raise Unusable(
                    f"{self.path} is of another {key}: choose another --out, or leave out --resume"
                )
        old["runs"] = [run for run in old["runs"] if run["state"] in FINAL]
        self.results = old

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.watch:
            self.watch.stop()
        self.save()
        self.temporary.cleanup()

    def say(self, text):
        elapsed = time.monotonic() - self.begin
        print(f"[{elapsed:6.1f} s] {text}", flush=True)

    def remaining(self):
        return self.deadline - time.monotonic()

    def save(self):
        """Writes the results, whole or not at all; outputs are cut where the file would grow too large."""
        keep = OUTPUT
        while True:
            text = json.dumps(self.results, indent=1, ensure_ascii=False).encode()
            if len(text) < FILE or keep < 100:
                break
            keep //= 2
            for run in self.results["runs"]:
                for stream in ("stdout", "stderr"):
                    run[stream] = cut(run.get(stream, ""), keep)
        part = self.path.with_suffix(".part")
        with open(part, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    # The parts.

    def all_parts(self):
        pack = self.pack
        changed = ", and changes that are in no commit" if pack["changed"] else ""
        self.say(
            f"pack of {pack['date']}, commit {pack['commit'][:12]}{changed}; {self.args.minutes:g} minutes"
        )
        self.see_machine()
        parts = [
            self.smoke,
            self.ceilings,
            self.compare,
            self.ladder,
            self.batch,
            self.precisions,
            self.defaults,
        ]
        for name, part in zip(PARTS, parts):
            if not self.args.only or name in self.args.only:
                self.say(f"== {name}: {PARTS[name]}")
                part()
        return self.conclude()

    def see_machine(self):
        """Writes down what machine this is, and stops where it has no GPU that PyTorch can use."""
        machine = {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": sys.executable,
        }
        self.results["machine"] = machine
        asked = self.ask([sys.executable, "-c", ASK_TORCH])
        if asked.returncode != 0:
            raise Unusable(f"PyTorch does not start in {sys.executable}: {last_line(asked.stderr)}")
        machine["torch"] = json.loads(asked.stdout)
        if self.device == "cuda":
            machine["nvidia-smi"] = ask_nvidia_smi()
            if not machine["torch"].get("gpu"):
                raise Unusable("PyTorch sees no GPU here; `run.sh --cpu --quick` shows that all else works")
        asked = self.ask([HERE / "bench", "--device", self.device, "fast"])
        if asked.returncode != 0:
            raise Unusable(f"the program bench does not start: {last_line(asked.stderr)}")
        machine["fast at bf16"] = json.loads(asked.stdout)["bf16"]
        self.save()
        for name, value in machine.items():
            if name != "nvidia-smi":
                self.say(f"{name}: {value}")

    def smoke(self):
        self.step("environment", self.steps()[0], needs=20, limit=60)

    def ceilings(self):
        self.bench("ceilings", "products", ["--only", "ceiling"], needs=40)

    def compare(self):
        if not self.fast_bf16():
            self.skip("compare", "gpt2 bf16", SLOW_BF16)
            return
        self.bench(
            "compare", "gpt2 bf16", ["--only", "gpt2", "--precision", "bf16", *self.turns(2)], needs=100
        )

    def fast_bf16(self):
        return self.results["machine"]["fast at bf16"]

    def precisions(self):
        which = ["tf32", "fp32"] if self.device == "cuda" else ["fp32"]
        for precision in which:
            options = ["--only", "gpt2", "--precision", precision, *self.turns(1)]
            self.bench("precisions", f"gpt2 {precision}", options, needs=60)

    def batch(self):
        """Half as many sequences, until they fit."""
        if not self.fast_bf16():
            self.skip("batch", "gpt2 bf16", SLOW_BF16)
            return
        for size in (128, 64, 32) if self.device == "cuda" else (8, 4):
            options = ["--only", "gpt2", "--precision", "bf16", "--batch-size", str(size), *self.turns(1)]
            run = self.bench("batch", f"gpt2 bf16, batches of {size}", options, needs=60)
            if not ran_out_of_memory(run):
                break
            run["state"] = "out of memory"
            self.save()
            self.say(f"batches of {size} do not fit: half of it")

    def turns(self, rounds):
        """How often, and with which sides, a comparison is made."""
        if self.device == "cuda":
            return ["--compile", "--rounds", str(rounds)]
        return ["--rounds", "1", "--steps", "2"]  # without torch.compile: it takes a minute on a CPU

    def ladder(self):
        number = 50 if self.device == "cuda" else 5
        for step in self.steps():
            if self.is_left_out(step):
                self.skip("ladder", step, SLOW_BF16)
            elif sizes := self.sizes(step):
                size = self.smallest(step) if self.args.quick or "gpt2" not in sizes else "gpt2"
                run = self.step("ladder", step, size=size, steps=number, needs=30, limit=150)
                self.measure_against_ceiling(run)

    def is_left_out(self, step):
        return self.args.quick and TRAINS_IN_BF16 in step and not self.fast_bf16()

    def defaults(self):
        for step in self.steps():
            if self.is_left_out(step):
                continue  # the ladder has said so
            size = self.smallest(step)
            if size and self.args.quick:
                self.skip("defaults", step, "the ladder has just run it at this size")
                continue
            self.step("defaults", step, size=size, needs=15, limit=90)
            if not size and (HERE / "data/shakespeare").exists() and not self.args.quick:
                self.step("defaults", step, corpus="shakespeare", needs=15, limit=90)

    # What the parts are made of.

    def ask(self, command):
        """What a program answers within a minute."""
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)

    def steps(self):
        """The steps that the program holds, in their order."""
        if "" not in self.helps:
            listed = self.ask([HERE / "all_steps"])
            if listed.returncode != 0:
                raise Unusable(f"the program all_steps does not start: {last_line(listed.stderr)}")
            self.helps[""] = listed.stdout
        return self.helps[""].split()

    def help(self, step):
        """What a step says of its flags."""
        if step not in self.helps:
            self.helps[step] = self.ask([HERE / "all_steps", step, "--help"]).stdout
        return self.helps[step]

    def sizes(self, step):
        """The sizes that a step offers, from the smallest; none if it has no such choice."""
        flag = re.search(r"^ +--size <.*?(?=^ +(?:-\w, )?--\w|\Z)", self.help(step), re.MULTILINE | re.DOTALL)
        return re.findall(r"^ +- ([\w-]+)", flag[0], re.MULTILINE) if flag else []

    def smallest(self, step):
        return next(iter(self.sizes(step)), None)

    def step(self, part, step, size=None, steps=None, corpus=None, needs=0, limit=None):
        """Runs a step, as long as it takes by default or so many steps, with those flags that it has."""
        name = " ".join(filter(None, [step, size, corpus]))
        out = Path(tempfile.mkdtemp(dir=self.temporary.name))
        steps = QUICK_STEPS if self.args.quick else steps
        if self.args.quick and not size:
            corpus = HERE / "run.py"  # a short text: its validation takes a second, and the fables' many
        flags = {"device": self.device, "out": out, "size": size, "steps": steps, "corpus": corpus}
        command = [HERE / "all_steps", step]
        for flag, value in flags.items():
            if value is None:
                continue
            if not re.search(rf"--{flag}(?![\w-])", self.help(step)):
                self.say(f"{step} has no --{flag}: it runs without")
                continue
            command += [f"--{flag}", str(value)]
        run = self.run(part, name, command, needs, limit)
        if run["state"] == "skipped" or run.get("before"):
            return run
        run["metrics"], run["values"] = metrics(out / "metrics.csv")
        if (out / "record.json").exists():
            run["record"] = json.loads((out / "record.json").read_text())
        self.save()
        self.report(run)
        return run

    def bench(self, part, name, options, needs):
        """Runs a comparison with PyTorch, and takes over the file that it writes."""
        path = Path(self.temporary.name) / "bench.json"
        path.unlink(missing_ok=True)
        command = [
            HERE / "bench",
            *options,
            "--device",
            self.device,
            "--python",
            sys.executable,
            "--json",
            path,
        ]
        command += ["--quick"] * self.args.quick + ["--threads", "1"] * (self.args.cpu and self.args.quick)
        run = self.run(part, name, command, needs, None)
        if path.exists() and not run.get("before"):
            run["bench"] = json.loads(path.read_text())
            self.save()
            print(run["stdout"], end="", flush=True)
            self.report(run)
        return run

    def run(self, part, name, command, needs, limit):
        """Runs a command, if there is time, for `limit` seconds at most, and returns what is known of it."""
        before = [run for run in self.results["runs"] if (run["part"], run["name"]) == (part, name)]
        if before:
            self.say(f"{name}: done before")
            return {**before[0], "before": True}
        if self.args.quick:
            needs, limit = min(needs, 3), limit and min(limit, QUICK_LIMIT)
        if self.remaining() < needs:
            self.left.append(f"{part} {name}")
            return self.skip(
                part, name, f"no time: it needs some {needs} s, and {max(0, self.remaining()):.0f} are left"
            )
        allowed = min(limit or self.remaining(), self.remaining())
        self.say(f"{name} …")
        run = {"part": part, "name": name, "command": [str(word) for word in command]}
        self.results["runs"].append(run)
        run |= {"state": "interrupted"}  # until it has ended
        begin = time.monotonic()
        run |= self.execute(run["command"], allowed)
        if self.watch:
            run["gpu"] = self.watch.summary(begin)
        run["flags"] = self.suspicious(run)
        if run["state"] == "stopped" and allowed != limit:
            run["state"] = "out of time"
            self.left.append(f"{part} {name}")
        words = {"failed": f"failed, exit code {run['exit']}: {last_line(run['stderr'])}"}
        self.say(f"{name}: {words.get(run['state'], run['state'])} after {run['seconds']} s")
        self.save()
        return run

    def skip(self, part, name, why):
        run = {"part": part, "name": name, "state": "skipped", "why": why}
        self.results["runs"].append(run)
        self.say(f"{name}: skipped ({why})")
        self.save()
        return run

    def execute(self, command, seconds):
        """Runs a command and all that it starts; after so many seconds it gets TERM, then KILL."""
        # A group of its own can be ended as a whole.
        group = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
        begin = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            child = subprocess.Popen(command, cwd=HERE, env=self.environment, **streams, **group)
            state = None
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                state = "stopped"
            finally:
                end(child)
            printed = {"stdout": read(out), "stderr": read(err)}
        state = state or ("done" if child.returncode == 0 else "failed")
        return {
            "state": state,
            "exit": child.returncode,
            "seconds": round(time.monotonic() - begin, 1),
        } | printed

    # What the results say.

    def suspicious(self, run):
        """What somebody should look at: proofs that do not hold, and a GPU that was not used."""
        flags = [line.strip() for line in run["stdout"].splitlines() if re.search(r"\bNO( \(|$)", line)]
        if re.search(r"\b(Double|float64)\b", run["stderr"]):
            flags.append(f"float64: {last_line(run['stderr'])}")
        if self.device == "cuda":
            if re.search(r"\bCpu\b", run["stdout"]):
                flags.append("its output names the CPU")
            gpu = run.get("gpu") or {}
            if not gpu.get("samples"):
                flags.append("nvidia-smi gave no readings while it ran")
            elif not gpu["utilization_max"] or gpu["memory_mb_max"] <= gpu["memory_mb_idle"]:
                flags.append("the GPU stood idle while it ran")
        return flags

    def ceiling(self):
        """The fastest bf16 product on this machine in FLOP/s, and the FLOPs of a GPT-2's token."""
        for run in self.results["runs"]:
            if run["part"] == "ceilings" and run.get("bench", {}).get("comparisons"):
                bench = run["bench"]
                rows = bench["comparisons"][0]["rows"]
                best = max([row["gflops"] for row in rows if row["precision"] == "bf16"], default=0)
                return best * 1e9, bench["flops_per_token"]["gpt2"]
        return 0, 0

    def measure_against_ceiling(self, run):
        """A GPT-2's speed as a share of the measured ceiling: on a GPU, where T is 1,024."""
        ceiling, flops = self.ceiling()
        speed = last_values(run).get("tok/s")
        if self.device == "cuda" and not self.args.quick and ceiling and speed and "gpt2" in run["command"]:
            run["mfu"] = flops * speed / ceiling
            self.save()

    def report(self, run):
        """One line of what a run has shown, and one for each thing to look at."""
        values = last_values(run)
        words = [f"{name} {value:,.4g}" for name, value in values.items() if value is not None]
        if gpu := run.get("gpu"):
            words.append(f"GPU memory {gpu['memory_mb_max']} MB (nvidia-smi)")
        if words:
            self.say("    " + ", ".join(words))
        for flag in run["flags"]:
            self.say(f"    LOOK: {flag}")

    def conclude(self):
        runs = self.results["runs"]
        self.print_ladder()
        failed = [f"{run['part']} {run['name']}" for run in runs if run["state"] == "failed"]
        stopped = [f"{run['part']} {run['name']}" for run in runs if run["state"] == "stopped"]
        count = sum(run["state"] == "done" for run in runs)
        self.say(
            f"{count} runs done, {len(failed)} failed, {len(self.left)} left for want of time: {self.path}"
        )
        took_long = "stopped at their limits, what they had printed is kept"
        for title, names in (("failed", failed), (took_long, stopped), ("left", self.left)):
            if names:
                self.say(f"{title}: {', '.join(names)}")
        if self.left:
            self.say("the same command with --resume goes on from here")
        return 1 if failed else 3 if self.left else 0

    def print_ladder(self):
        rows = [run for run in self.results["runs"] if run["part"] == "ladder" and last_values(run)]
        if rows:
            print(f"\n{'':32} {'ms':>9} {'tok/s':>11} {'MFU':>7} {'peak MB':>9}")
        for run in rows:
            values, gpu = last_values(run), run.get("gpu") or {}
            mfu = f"{100 * run['mfu']:.1f} %" if "mfu" in run else ""
            ms, speed, peak = values.get("ms") or 0, values.get("tok/s") or 0, gpu.get("memory_mb_max", "")
            print(f"{run['name']:32} {ms:>9.2f} {speed:>11,.0f} {mfu:>7} {peak:>9}")
        if rows:
            print(
                "ms, tok/s: the last line that the step printed; peak: of the whole card, by nvidia-smi\n",
                flush=True,
            )


class Watch:
    """Readings of the first GPU, four a second, by nvidia-smi."""

    FIELDS = ["memory.used", "utilization.gpu", "power.draw", "clocks.sm", "temperature.gpu"]

    def __init__(self):
        self.readings = []
        command = [
            "nvidia-smi",
            "--id=0",
            "--query-gpu=" + ",".join(self.FIELDS),
            "--format=csv,noheader,nounits",
        ]
        try:
            self.child = subprocess.Popen(
                command + ["--loop-ms=250"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            self.child = None
            return
        threading.Thread(target=self.read, daemon=True).start()
        time.sleep(1)  # what is in use before we begin

    def read(self):
        for line in self.child.stdout:
            self.readings.append((time.monotonic(), [number(word) for word in line.split(",")]))

    def summary(self, since):
        """The readings since then: the largest and the median of each."""
        readings = list(self.readings)
        columns = list(zip(*(values for at, values in readings if at >= since)))
        of = {}
        for name, column in zip(["memory_mb", "utilization", "power_w", "clock_mhz", "celsius"], columns):
            known = [value for value in column if value is not None]
            of |= {f"{name}_max": max(known, default=0), f"{name}_median": statistics.median(known or [0])}
        idle = readings[0][1][0] if readings else 0
        samples = len(columns[0]) if columns else 0
        return {
            "samples": samples,
            "memory_mb_idle": idle or 0,
            "memory_mb_max": 0,
            "utilization_max": 0,
        } | of

    def stop(self):
        if self.child:
            self.child.kill()


def environment(pack):
    """The environment for all programs, in which they find PyTorch's libraries."""
    spec = importlib.util.find_spec("torch")
    advice = "name a Python that has it with PYTHON=…"
    if spec is None or not spec.submodule_search_locations:
        raise Unusable(f"{sys.executable} has no PyTorch, and {pack['libtorch']} is needed: {advice}")
    torch = Path(spec.submodule_search_locations[0])
    said = re.search(r"__version__ = '([^']*)'", (torch / "version.py").read_text())
    version = said[1] if said else "unknown"
    if version.split("+")[0] != pack["libtorch"]:
        raise Unusable(f"{sys.executable} has PyTorch {version}, and {pack['libtorch']} is needed: {advice}")
    nvidia = importlib.util.find_spec("nvidia")
    packages = [Path(folder) for folder in nvidia.submodule_search_locations] if nvidia else []
    folders = [torch / "lib"] + sorted(lib for folder in packages for lib in folder.glob("*/lib"))
    own = os.environ.get("LD_LIBRARY_PATH")
    path = ":".join([str(folder) for folder in folders] + ([own] if own else []))
    variables = os.environ | {"LD_LIBRARY_PATH": path, "PYTHONUNBUFFERED": "1"}
    for program in ("bench", "all_steps"):
        # What `ldd` does: the loader lists the libraries instead of running the program.
        listed = subprocess.run(
            [HERE / program], capture_output=True, text=True, env=variables | {"LD_TRACE_LOADED_OBJECTS": "1"}
        )
        missing = re.findall(r".*not found.*", listed.stdout + listed.stderr)
        if missing:
            lines = "; ".join(line.strip() for line in missing[:3])
            raise Unusable(
                f"the program {program} lacks a library ({lines}), which {torch} does not have either: "
                f"{'is it one for CPUs alone? ' if pack['cuda'] else ''}{advice}"
            )
    return variables


def end(child):
    """Ends what is left of a child's group: TERM, and KILL for what does not listen."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        if number == signal.SIGTERM and child.poll() is None:
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                pass
    child.wait()


def read(file):
    file.seek(0)
    return cut(file.read().decode(errors="replace"), OUTPUT)


def cut(text, keep):
    """The beginning and the end of a text that is too long."""
    if len(text) <= keep:
        return text
    head = 2 * keep // 3
    return f"{text[:head]}\n… {len(text) - keep:,} characters are left out here …\n{text[head - keep :]}"


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it says nothing"


def number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def metrics(path):
    """The rows of a metrics.csv, and for each run in it the last and the median time, speed and losses."""
    if not path.exists():
        return [], {}
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    values = {}
    for run in dict.fromkeys(row["run"] for row in rows):
        of = {}
        for name in rows[0]:
            column = [number(row[name] or "") for row in rows if row["run"] == run]
            known = [value for value in column if value is not None]
            if known and name not in ("run", "step"):
                of[name] = known[-1]
                if name in ("ms", "tok/s"):
                    of[f"{name} median"] = statistics.median(known)
                elif name in ("loss", "val"):
                    of[f"{name} first"] = known[0]
        values[run] = of
    return rows, values


def last_values(run):
    return next(reversed((run.get("values") or {}).values()), {})


def ran_out_of_memory(run):
    printed = run.get("stdout", "") + run.get("stderr", "")
    return run["state"] in ("failed", "out of memory") and "out of memory" in printed


def cpu():
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor()


ASK_TORCH = """
import json, torch
told = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    told |= {"gpu": card.name, "capability": f"{card.major}.{card.minor}"}
    told |= {"multiprocessors": card.multi_processor_count, "memory_mb": card.total_memory // 1_000_000}
    told |= {"cudnn": torch.backends.cudnn.version()}
print(json.dumps(told))
"""


def ask_nvidia_smi():
    """Driver, clocks and power, as far as nvidia-smi tells."""
    told = {}
    fields = (
        "name driver_version memory.total power.limit clocks.max.sm clocks.max.memory clocks.sm compute_mode"
    )
    if not shutil.which("nvidia-smi"):
        return told
    for field in fields.split():
        command = ["nvidia-smi", "--id=0", f"--query-gpu={field}", "--format=csv,noheader"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30)
        told[field] = asked.stdout.strip() if asked.returncode == 0 else None
    return told


if __name__ == "__main__":
    sys.exit(main())
