#!/usr/bin/env python3
"""outcomes.py FOLDER: `PASS|FAIL|SKIP Class.method` for each test in JUnit's XML reports; with -v why it failed."""

import pathlib
import sys
import xml.etree.ElementTree as xml

verbose = "-v" in sys.argv
seen = {}
for report in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
    for case in xml.parse(report).iter("testcase"):
        name = f"{case.get('classname').rsplit('.', 1)[-1]}.{case.get('name').removesuffix('()')}"
        fault = next((child for child in case if child.tag in ("failure", "error")), None)
        word = "FAIL" if fault is not None else "SKIP" if case.find("skipped") is not None else "PASS"
        seen[name] = word + " " + name
        if verbose and fault is not None:
            seen[name] += ": " + " ".join((fault.get("message") or fault.get("type") or "").split())[:200]
print("\n".join(seen[name] for name in sorted(seen)))
