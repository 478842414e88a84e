"""Privacy: delete, export and silence people; proof of what was removed."""
