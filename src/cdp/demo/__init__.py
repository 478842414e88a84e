"""A believable history of a shop's customers: generated purely, posted through the wire."""
