#!/usr/bin/python3
"""failover: medians of what test/bench/failover.c measures, as a Markdown table.

  scripts/bench failover [--runs N] [CASE...]

Cases: kill_follow, kill_promote, black_hole, planned; all of them without a name. black_hole needs root
(a network namespace). Each run starts its own PostgreSQL servers, so ten take some minutes.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

# case -> what it is, then the figures of its row: (heading, name in the output)
CASES = {
    "kill_follow": ("`kill -9` of the primary, `follow`: something else promotes at once", "first_write"),
    "kill_promote": ("`kill -9` of the primary, `promote`, `failover_delay = 0`", "first_write"),
    "black_hole": ("black hole at default settings, promoted on the other side at once", "first_write"),
    "planned": ("planned switchover under pgbench, 20 clients: longest transaction", "longest_pause"),
}


def run(program, case, environment):
    """One measurement: {name: value}."""
    with tempfile.NamedTemporaryFile("r", prefix="pgstage-bench-") as output:
        done = subprocess.run(
            [program, "--filter", f"bench/{case}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300,
            env={**os.environ, **environment, "BENCH_OUTPUT": output.name})
        figures = {}
        for line in output:
            name, value = line.split()
            figures[name] = float(value)
    if done.returncode != 0 or (not figures and "SKIP" not in done.stdout):
        sys.exit(f"{case} failed:\n{done.stdout}")
    return figures


def spread(values, name):
    """Median and range of a figure over all runs."""
    found = [value[name] for value in values if name in value]
    if not found:
        return "–"
    return f"{statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f})"


def total(values, name):
    return f"{sum(value.get(name, 0) for value in values):.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=10, help="measurements of each case (10)")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    arguments = parser.parse_args()
    for case in arguments.cases:
        if case not in CASES:
            parser.error(f"there is no case {case}")
    build = os.path.abspath(arguments.build)
    program = os.path.join(build, "test/bench/failover")
    environment = {"PGSTAGE": os.path.join(build, "pgstage"), "PGSTAGE_TEST_CACHE": build}

    print(f"Milliseconds: median (least–most) of {arguments.runs}\n")
    print("| case | until the first write | the promotion itself | beyond it | idle clients lost | "
          "disconnected | told 08007 | told other errors |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in arguments.cases or CASES:
        what, main_figure = CASES[case]
        values = []
        for number in range(arguments.runs):
            print(f"\r{case} {number + 1}/{arguments.runs} ", end="", file=sys.stderr, flush=True)
            values.append(run(program, case, environment))
        print("\r", end="", file=sys.stderr)
        if not any(values):
            print(f"| {what} | skipped: needs root | | | | | | |")
            continue
        if case == "planned":
            print(f"| {what} | {spread(values, main_figure)} | {spread(values, 'promotion')} | "
                  f"{spread(values, 'beyond')} beyond the demote command's {spread(values, 'demote')} | "
                  f"– | – | {total(values, 'errors')} | {total(values, 'errors')} |")
            continue
        print(f"| {what} | {spread(values, main_figure)} | {spread(values, 'promotion')} | "
              f"{spread(values, 'beyond')} | {total(values, 'idle_lost')} | "
              f"{total(values, 'disconnected')} | {total(values, 'unknown')} | "
              f"{total(values, 'failed')} |", flush=True)


if __name__ == "__main__":
    main()
