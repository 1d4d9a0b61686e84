"""Writes the Grafana dashboard and the Prometheus rules of deploy/monitoring from typed panels, alerts and records.

`python -m tools.monitoring` writes the files of the repository. `--job`, `--runbooks` and `--folder` make a set for
another name of the scrape job, or with links to a copy of docs/runbooks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tools.monitoring_panels import ROWS, Panel, Row
from tools.monitoring_rules import ALERTS, RECORDS, Alert, Record

ROOT: Final = Path(__file__).parents[1]
JOB: Final = "(.*/)?(kube-dns|coredns|svcdns)(-metrics)?"
RUNBOOKS: Final = "docs/runbooks"
WIDTH: Final = 24  # the columns of a Grafana dashboard
HEIGHT: Final = 8


def dashboard(rows: Sequence[Row] = ROWS, job: str = JOB) -> dict[str, Any]:
    """Returns the dashboard in Grafana's JSON model (schema version 39)."""
    return {
        "title": "svcdns",
        "uid": "svcdns",
        "tags": ["dns", "kubernetes"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("job", f'label_values(coredns_build_info{{job=~"{job}"}}, job)'),
                _variable("instance", 'label_values(coredns_build_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": list(_placed(rows)),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yields rows and panels with their ids and positions, from left to right and from top to bottom."""
    number, top = 1, 0
    for row in rows:
        yield {
            "type": "row",
            "title": row.title,
            "id": number,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        number, top, left = number + 1, top + 1, 0
        height = HEIGHT // 2 if all(panel.stat for panel in row.panels) else HEIGHT
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.help,
        "id": number,
        "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query.promql, "legendFormat": query.legend or "total"}
            for index, query in enumerate(panel.queries)
        ],
    }


def rules(job: str = JOB, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """Returns the rule groups in the form of a rule file. `runbooks` is the folder or URL of the runbooks."""
    return {
        "groups": [
            {"name": "svcdns-sli", "rules": [_record(one, job) for one in RECORDS]},
            {"name": "svcdns-alerts", "rules": [_alert(one, job, runbooks) for one in ALERTS]},
        ]
    }


def _record(record: Record, job: str) -> dict[str, Any]:
    return {"record": record.name, "expr": record.expression.replace("SELECT", f'job=~"{job}"')}


def _alert(alert: Alert, job: str, runbooks: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression.replace("SELECT", f'job=~"{job}"'),
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks}/{alert.name}.md",
        },
    }


def files(job: str = JOB, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """Returns the texts of all files, by their paths below `deploy`."""
    groups = rules(job, runbooks)
    operator = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "svcdns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": groups,
    }
    return {
        "monitoring/dashboard.json": json.dumps(dashboard(job=job), indent=1) + "\n",
        "monitoring/rules.yaml": _yaml(groups),
        "kustomize/components/alerts/prometheus-rule.yaml": _yaml(operator),
    }


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=110, allow_unicode=True)
    return "# Written by tools/monitoring.py.\n" + text


def main(arguments: Sequence[str]) -> int:
    """Writes the files. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="monitoring", description="Writes the dashboard and the rules.")
    parser.add_argument("--job", default=JOB, help="regular expression for the name of the scrape job")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="URL or folder of the runbooks")
    parser.add_argument("--folder", type=Path, default=ROOT / "deploy", help="where the files go")
    options = parser.parse_args(arguments)
    for name, text in files(options.job, options.runbooks).items():
        path = options.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
