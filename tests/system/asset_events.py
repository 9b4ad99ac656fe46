"""What a run has said with its asset events."""

from __future__ import annotations

from typing import Any


def events(run: Any) -> list[dict[str, Any]]:
    """What was said with every asset event of a run."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.asset import AssetEvent as Event
    except ImportError:  # Airflow 2:
        from airflow.models.dataset import DatasetEvent as Event  # type: ignore[import-not-found, no-redef]
    with create_session() as session:
        found = session.query(Event).filter_by(source_run_id=run.run_id).all()
        return [dict(event.extra) for event in found]
