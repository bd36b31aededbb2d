"""Writes one line a test to the file named by ROWGATE_OUTCOMES: the word, the test, the first line of the reason.

Loaded into pytest by `-p outcomes`. A test is named before it runs, so that one that hangs can be told.
"""

import os
import re

import pytest

# The line of an exception in Python's own tracebacks, which some suites show in place of pytest's.
NATIVE = re.compile(r"[A-Za-z_.]+(Error|Exception|Warning)\b")
FILE = open(os.environ["ROWGATE_OUTCOMES"], "a", buffering=1)
SEEN = {}


def line(text):
    lines = [part.strip() for part in str(text).splitlines() if part.strip()]
    errors = [part for part in lines if part.startswith("E ")]
    native = [part for part in lines if NATIVE.match(part)]
    shown = (errors or native or lines or [""])[0].removeprefix("E").strip()
    return shown.replace("\t", " ")[:300]


def pytest_runtest_logstart(nodeid, location):
    FILE.write(f"began\t{nodeid}\t\n")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    word = None
    if report.failed:
        word = "fail"
    elif report.skipped:
        word = "skip"
    elif report.when == "call":
        word = "pass"
    if word and SEEN.get(report.nodeid) != "fail":
        SEEN[report.nodeid] = word
        reason = ""
        if word == "fail":
            reason = line(report.longreprtext)
        FILE.write(f"{word}\t{report.nodeid}\t{reason}\n")


def pytest_collectreport(report):
    if report.failed:
        FILE.write(f"fail\t{report.nodeid} (collection)\t{line(report.longrepr)}\n")
