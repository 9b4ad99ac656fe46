"""Who calls: IAM's users, tokens and keys, and the signatures of requests."""
