"""What is known of a person: traits, consents, timeline, the profile that is read."""
