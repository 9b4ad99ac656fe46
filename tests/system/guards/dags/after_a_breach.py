"""The example of docs/guards.md: a DAG that starts where a guard or a release has seen a breach."""

# [example]
from airflow.sdk import Asset, dag, task


@dag(schedule=[Asset("iotda://rollout/breached")], catchup=False)
def after_a_breach():
    @task
    def freeze_releases(triggering_asset_events=None):
        """What has broken: one run may be about several rollouts."""
        return {
            event.extra["batch_task_id"]: event.extra["summary"]
            for events in triggering_asset_events.values()
            for event in events
        }

    freeze_releases()


after_a_breach()
