"""Runs jobs with a Python SDK: ``python python_sdk.py segment|rudderstack < jobs.json``.

A job is ``{"url", "key", "options", "calls": [{"type", …}]}``, where a call has the names of the
wire, and ``{"$date": …}`` stands for a date. Prints one ``{"errors": […]}`` per job. The JSON may
hold NaN. Knows nothing of the rest of the tests: it runs with other versions of the SDKs too.
"""

import importlib
import json
import re
import sys
import threading
from datetime import datetime
from typing import Any


def run_job(client_class: Any, job: dict[str, Any], report: dict[str, list[str]]) -> None:
    """Make the calls; return when the SDK believes that all is delivered, or has given up."""
    errors = report["errors"]
    client = client_class(
        job["key"],
        host=job["url"],
        on_error=lambda error, _: errors.append(f"{type(error).__name__}: {error}"),
        **job["options"],
    )
    for call in job["calls"]:
        arguments = {to_snake(name): value for name, value in call.items() if name != "type"}
        getattr(client, call["type"])(**arguments)
    client.flush()
    client.shutdown()


def to_snake(name: str) -> str:
    """``userId`` to ``user_id``."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def read_date(value: dict[str, Any]) -> Any:
    """A date for what stands for one."""
    return datetime.fromisoformat(value["$date"]) if "$date" in value else value


def main() -> None:
    client_class = importlib.import_module(f"{sys.argv[1]}.analytics.client").Client
    jobs = json.load(sys.stdin, object_hook=read_date)
    reports: list[dict[str, list[str]]] = [{"errors": []} for _ in jobs]
    threads = [
        threading.Thread(target=run_job, args=(client_class, job, report))
        for job, report in zip(jobs, reports, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
