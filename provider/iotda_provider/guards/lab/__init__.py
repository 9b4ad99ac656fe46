"""Rules tried before they guard a rollout: plan, simulate, replay (command ``iotda-guard``)."""
