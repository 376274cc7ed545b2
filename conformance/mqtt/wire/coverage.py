"""Which statements have a case, which are said not to apply, and which have neither."""

import re

import cases


def statements(folder):
    """All statements of a version: lines `3.1.2 1-24` or `2.2.1 2-6` of its file `statements`."""
    found = []
    for line in (cases.FOLDER / folder / "statements").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            section, first, last = re.fullmatch(r"([\d.]+) (\d+)(?:-(\d+))?", line).groups()
            found += [f"MQTT-{section}-{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def not_applicable(folder):
    """{statement: reason}."""
    found = {}
    for line in (cases.FOLDER / folder / "not-applicable").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            statement, _, reason = line.partition(": ")
            found[statement] = reason.strip()
    return found


def report(everything):
    """Prints it; 1 if something is missing or said twice."""
    faults = []
    for folder in cases.VERSIONS:
        every, excused = statements(folder), not_applicable(folder)
        proven = {}
        for case in everything:
            if case.folder == folder:
                for statement in case.statements:
                    proven.setdefault(statement, []).append(case.name)
        for statement in every:
            if statement not in proven and statement not in excused:
                faults.append(f"{folder}/{statement}: neither a case nor a reason")
            if statement in proven and statement in excused:
                faults.append(f"{folder}/{statement}: has a case, and is said not to apply")
        for statement in [*proven, *excused]:
            if statement not in every:
                faults.append(f"{folder}/{statement}: no such statement")
        faults += [f"{folder}/{statement}: does not apply, without a reason" for statement, reason in excused.items() if not reason]
        differing = sum(1 for case in everything if case.folder == folder and (case.mosquitto or case.without_mosquitto))
        print(f"{folder}: {len(every)} statements, {len(set(proven) & set(every))} with cases, {len(excused)} do not apply; "
              f"{sum(case.folder == folder for case in everything)} cases, {differing} not passed by mosquitto")
    print("\n".join(faults) or "nothing is missing")
    return 1 if faults else 0
