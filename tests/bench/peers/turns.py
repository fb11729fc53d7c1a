"""Lets opgrad and its peers do each work in turn and prints the table of ratios, in Markdown."""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--command", required=True)
parser.add_argument("--threads", required=True)
parser.add_argument("--rounds", type=int, required=True)
parser.add_argument("--seconds", type=float, required=True)
parser.add_argument("--missing", action="append", default=[])
parser.add_argument("--log", required=True)
parser.add_argument("--system", action="append", default=[], metavar="NAME=COMMAND")
parser.add_argument("works", nargs="*")
options = parser.parse_args()

log = open(options.log, "a")
missing = options.missing
COLUMNS = ["PyTorch eager", "PyTorch channels last", "PyTorch compiled", "LibTorch", "TensorFlow", "JAX"]


def pinned(threads):
    """On the same processors for all, which is the one way to bound the threads of every system."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, processors)


def all_works():
    """As opgrad lists them: the table in models/works.cpp is the one place where they stand."""
    said = subprocess.run([options.command, "bench", "--help"], capture_output=True, text=True, check=True).stdout
    works = re.findall(r"^ +(\w+)  ", said.split("Works, in this order", 1)[1], re.MULTILINE)
    if not works:
        sys.exit(f"{options.command} bench --help lists no works")
    return works


class Peer:
    """A system that stays alive between its turns, so that it compiles a work only once."""

    def __init__(self, text, threads):
        self.name, command = text.split("=", 1)
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                        text=True, preexec_fn=pinned(threads))
        self.version = self.read().get("version")

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"dead": True}

    def turn(self, work):
        try:
            self.process.stdin.write(f"{work} {options.seconds}\n")
            self.process.stdin.flush()
            return self.read()
        except BrokenPipeError:
            return {"dead": True}

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Opgrad:
    name = "opgrad"

    def __init__(self, threads):
        self.threads = threads

    def turn(self, work):
        arguments = [options.command, "bench", work, "--json", "--threads", str(self.threads), "--repetitions", "2",
                     "--seconds", str(options.seconds)]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=log, text=True, check=True,
                              preexec_fn=pinned(self.threads))
        return json.loads(done.stdout)

    def end(self):
        pass


def processor():
    with open("/proc/cpuinfo") as lines:
        names = (line.split(": ", 1)[1].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def measure(threads):
    """{work: {system: (smallest ms, median ms, steps)}}; a system that ends on the way is left out from then on."""
    systems = [Opgrad(threads)] + [Peer(text, threads) for text in options.system]
    for peer in list(systems[1:]):
        if peer.version:
            versions[peer.name] = peer.version
        else:
            missing.append(f"{peer.name} (does not start; see {options.log})")
            systems.remove(peer)
    rows = {}
    for work in options.works or all_works():
        turns = {system.name: [] for system in systems}
        for _ in range(options.rounds):
            for system in systems:
                answer = system.turn(work)
                if answer.get("dead"):
                    missing.append(f"{system.name} (ended in {work}; see {options.log})")
                    systems = [s for s in systems if s is not system]
                    turns.pop(system.name)
                elif answer:
                    turns[system.name].append(answer)
        rows[work] = {name: (min(a["min_ms"] for a in answers), statistics.median(a["median_ms"] for a in answers),
                             sum(a["n"] for a in answers)) for name, answers in turns.items() if answers}
        lowest = ", ".join(f"{name} {times[0]:.3f}" for name, times in rows[work].items())
        print(f"{work}, {threads} threads, ms: {lowest}", file=sys.stderr, flush=True)
    for system in systems:
        system.end()
    return rows


versions = {}
load = os.getloadavg()[0]
tables = {threads: measure(threads) for threads in sorted({int(t) for t in options.threads.split()})}

own_version = subprocess.run([options.command, "--version"], capture_output=True, text=True).stdout.split()[-1]
print(f"{processor()}, {os.cpu_count()} processors, load {load:.1f} before; opgrad {own_version}"
      + "".join(f", {name} {version}" for name, version in versions.items()) + ".")
print(f"{options.rounds} turns of {options.seconds:g} s each. Ratios of the smallest times: peer / opgrad, so above 1"
      " opgrad is the faster one.")
print(f"Missing: {', '.join(dict.fromkeys(missing)) or 'none'}.\n")
print("| work | threads | opgrad ms (median, steps) | " + " | ".join(COLUMNS + ["best peer"]) + " |")
print("|---|---|---|" + "---|" * (len(COLUMNS) + 1))
for threads, rows in tables.items():
    for work, times in rows.items():
        low, median, steps = times["opgrad"]
        ratios = {name: times[name][0] / low for name in COLUMNS if name in times}
        best = f"{min(ratios.values()):.2f}" if ratios else ""
        cells = [f"{ratios[name]:.2f}" if name in ratios else "" for name in COLUMNS] + [best]
        print(f"| `{work}` | {threads} | {low:.3f} ({median:.3f}, {steps}) | " + " | ".join(cells) + " |")
