"""Rules, segments, tags: their meaning, their SQL, who is in and why."""
