"""One conversion from start to end: plan, worker pool, resumable workspace, manifest."""
