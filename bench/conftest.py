"""What pytest-benchmark writes of test_micro.py: the rows and facts of all other results."""

from __future__ import annotations

from typing import Any

import pytest

from bench.harness import facts


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Replace its own form, which has the host's name and the commit in it."""
    rows = []
    for found in output_json["benchmarks"]:
        stats = found["stats"]
        rows.append(
            {
                "what": found["name"].removeprefix("test_"),
                "us": stats["median"] * 1e6,
                "least": stats["min"] * 1e6,
                "quartiles apart": stats["iqr"] * 1e6,
                "rounds": stats["rounds"],
            }
        )
    output_json.clear()
    output_json.update({"facts": facts(), "rows": rows})
