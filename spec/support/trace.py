"""Reads a Chrome trace as strictly as it can, and says what it found.

Usage: trace.py FILE

Per thread, time never goes back, each B has its E, and no B lies in another; per
thread and id, each b has its e.  Prints one JSON object: names of the threads, and
all other events but the metadata.  Ends with 1 and a sentence when a rule is broken.
"""

import json
import sys


def fail(rule, event):
    sys.exit(f"{rule}: {json.dumps(event)}")


def main(path):
    with open(path, encoding="utf-8") as file:
        events = json.load(file)
    threads, last, running, requests, rest = {}, {}, {}, set(), []
    for e in events:
        if e["ph"] == "M":
            if e["name"] == "thread_name":
                threads[e["tid"]] = e["args"]["name"]
            continue
        thread, phase = (e["pid"], e["tid"]), e["ph"]
        if e["ts"] < last.get(thread, 0):
            fail("time goes back", e)
        last[thread] = e["ts"]
        if phase == "B":
            if running.get(thread):
                fail("a B lies in another", e)
            running[thread] = True
        elif phase == "E":
            if not running.get(thread):
                fail("an E without its B", e)
            running[thread] = False
        elif phase == "b":
            if (thread, e["id"]) in requests:
                fail("a b lies in another", e)
            requests.add((thread, e["id"]))
        elif phase == "e":
            if (thread, e["id"]) not in requests:
                fail("an e without its b", e)
            requests.remove((thread, e["id"]))
        elif phase == "X":
            if e["dur"] < 0:
                fail("a duration below 0", e)
        elif phase != "i":
            fail("an unknown phase", e)
        rest.append(e)
    if any(running.values()) or requests:
        fail("something has no end", [str(r) for r in requests])
    json.dump({"threads": list(threads.values()), "events": rest}, sys.stdout)


main(sys.argv[1])
