"""Files hold null, not -1, for metrics that nothing could be measured on."""

import json
from pathlib import Path

from supernet.cli.runs import write_summary
from supernet.io.metric_values import with_null, without_null

METRICS = {"AP": 0.25, "AP50": 0.0, "APL": -1.0, "ARM": -1.0, "AP_hard": -1.0, "AR": 1.0}


def test_only_metrics_of_minus_1_become_null_and_are_read_back() -> None:
    value = {"rows": [{"metrics": METRICS, "AP": -0.5, "APX": -1.0, "delta": -1.0, "num": -1}], "AP_val_before": -1.0}
    changed = with_null(value)
    assert changed["rows"][0]["metrics"] == {
        "AP": 0.25,
        "AP50": 0.0,
        "APL": None,
        "ARM": None,
        "AP_hard": None,
        "AR": 1.0,
    }
    assert {**changed["rows"][0], "metrics": METRICS} == value["rows"][0]  # type: ignore[index]
    assert changed["AP_val_before"] == -1.0
    assert without_null(changed["rows"][0]["metrics"]) == METRICS
    assert without_null("none") == "none"


def test_summaries_hold_null(tmp_path: Path) -> None:
    write_summary(tmp_path, {"measurement": {"metrics": METRICS}})
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read["measurement"]["metrics"]["APL"] is None
    assert read["measurement"]["metrics"]["AP"] == 0.25
