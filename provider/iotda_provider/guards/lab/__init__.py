"""Rules tried out before they guard a rollout: plan, simulate, replay."""
