"""Orders as records: many reports of one order fold into the one that counts."""
