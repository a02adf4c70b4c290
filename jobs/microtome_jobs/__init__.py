"""Jobs: what `ray job submit` runs, and the demo."""
